//! The calls to AWS, by name: what to count, and what an IAM policy has to allow.

/// A call that the adapter can make. Each of the function's has its own line in its IAM policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// EC2, reads.
    DescribeAddresses,
    /// EC2, reads.
    DescribeInstances,
    /// EC2, reads.
    DescribeInstanceStatus,
    /// EC2, reads.
    DescribeTags,
    /// EC2, reads.
    DescribeNetworkInterfaces,
    /// CloudWatch, reads.
    DescribeAlarms,
    /// EC2, changes.
    AssociateAddress,
    /// EC2, changes.
    CreateTags,
    /// EC2, reads; the command line's alone.
    DescribeSecurityGroups,
    /// EC2, reads; the command line's alone.
    DescribeRouteTables,
}

impl Call {
    /// All of them, in the order of declaration: a call's number is its position.
    pub const ALL: [Call; 10] = [
        Call::DescribeAddresses,
        Call::DescribeInstances,
        Call::DescribeInstanceStatus,
        Call::DescribeTags,
        Call::DescribeNetworkInterfaces,
        Call::DescribeAlarms,
        Call::AssociateAddress,
        Call::CreateTags,
        Call::DescribeSecurityGroups,
        Call::DescribeRouteTables,
    ];

    /// Whether the function makes it. The others are for `eipwatch doctor`, with the operator's own credentials.
    pub fn is_of_the_function(self) -> bool {
        !matches!(self, Call::DescribeSecurityGroups | Call::DescribeRouteTables)
    }

    /// What an IAM policy has to allow for it. Source: the service authorization reference of Amazon EC2 and CloudWatch.
    pub fn iam_action(self) -> &'static str {
        match self {
            Call::DescribeAddresses => "ec2:DescribeAddresses",
            Call::DescribeInstances => "ec2:DescribeInstances",
            Call::DescribeInstanceStatus => "ec2:DescribeInstanceStatus",
            Call::DescribeTags => "ec2:DescribeTags",
            Call::DescribeNetworkInterfaces => "ec2:DescribeNetworkInterfaces",
            Call::DescribeAlarms => "cloudwatch:DescribeAlarms",
            Call::AssociateAddress => "ec2:AssociateAddress",
            Call::CreateTags => "ec2:CreateTags",
            Call::DescribeSecurityGroups => "ec2:DescribeSecurityGroups",
            Call::DescribeRouteTables => "ec2:DescribeRouteTables",
        }
    }
}
