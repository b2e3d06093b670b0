//! The role in `infra/template.yaml` may do what the code calls, and nothing else.

use std::collections::BTreeSet;
use std::path::Path;

use eipwatch::aws::Call;
use eipwatch::core::tags::prefix;

/// The role's policies that are for calls by the code. The others (`log`, `failed-events`, `vpc`) are for Lambda's own.
const POLICIES: [&str; 3] = ["read", "move", "tag"];

/// The actions that the named policies of a template's role allow.
///
/// Reads lines, not YAML: a policy begins at `- PolicyName: NAME` and ends at the next one or where the indentation goes
/// back. An action is a word `service:Call`, its call beginning with a capital: so neither ARNs nor condition keys such as
/// `ec2:Vpc` count, the latter because they stand before a colon.
fn allowed(template: &str, policies: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut wanted = None;
    for line in template.lines() {
        let indent = line.len() - line.trim_start().len();
        let text = line.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if let Some(name) = text.strip_prefix("- PolicyName: ") {
            wanted = policies.contains(&name).then_some(indent);
        } else if wanted.is_some_and(|from| indent <= from) {
            wanted = None;
        }
        if wanted.is_some() {
            found.extend(actions(text));
        }
    }
    found
}

/// The actions in one line.
fn actions(line: &str) -> impl Iterator<Item = String> {
    line.split(|c: char| !(c.is_ascii_alphanumeric() || c == ':'))
        .filter(|word| !word.ends_with(':'))
        .filter(|word| {
            word.split_once(':').is_some_and(|(service, call)| {
                matches!(service, "ec2" | "cloudwatch")
                    && call.chars().all(|c| c.is_ascii_alphanumeric())
                    && ["Describe", "Associate", "Create", "Delete", "Modify", "Disassociate", "Release"]
                        .iter()
                        .any(|verb| call.starts_with(verb))
            })
        })
        .map(str::to_owned)
}

/// Fails, naming them, if the template's role lacks an action that the code calls or has one that it does not.
fn assert_template_allows_exactly(called: &[&str]) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("infra/template.yaml");
    let template = std::fs::read_to_string(&file).expect("infra/template.yaml can be read");
    let allowed = allowed(&template, &POLICIES);
    let called: BTreeSet<String> = called.iter().map(|&action| action.to_owned()).collect();
    let missing: Vec<_> = called.difference(&allowed).collect();
    let unused: Vec<_> = allowed.difference(&called).collect();
    assert!(missing.is_empty(), "called, but not allowed by infra/template.yaml: {missing:?}");
    assert!(unused.is_empty(), "allowed by infra/template.yaml, but never called: {unused:?}");
}

#[test]
fn the_role_allows_what_the_code_calls_and_no_more() {
    let of_the_function = Call::ALL.into_iter().filter(|call| call.is_of_the_function());
    let called: Vec<&str> = of_the_function.map(Call::iam_action).collect();
    assert_template_allows_exactly(&called);
}

#[test]
fn what_an_operator_needs_to_be_allowed_is_documented() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference.md");
    let text = std::fs::read_to_string(&file).expect("docs/reference.md can be read");
    let (_, section) = text.split_once("### Permissions").expect("a section on permissions");
    let section = section.split("\n## ").next().unwrap_or_default();
    for call in Call::ALL {
        assert!(section.contains(call.iam_action()), "docs/reference.md, Permissions, lacks {}", call.iam_action());
    }
    for action in ["lambda:InvokeFunction", "lambda:GetFunctionConfiguration"] {
        assert!(section.contains(action), "docs/reference.md, Permissions, lacks {action}");
    }
}

#[test]
fn actions_are_found_in_yaml_and_in_json_and_only_in_the_named_policies() {
    let template = r#"
      Policies:
        # ec2:CreateNothing in a comment is no action
        - PolicyName: read
          PolicyDocument:
            Statement:
              - Action: [ec2:DescribeTags, cloudwatch:DescribeAlarms]
                Resource: "arn:aws:ec2:eu-west-1:111122223333:instance/*"
        - PolicyName: move
          PolicyDocument: !Sub |
            { "Action": "ec2:AssociateAddress", "Condition": {"ArnLike": {"ec2:Vpc": "arn:aws:ec2:x:y:vpc/z"}} }
        - PolicyName: vpc
          PolicyDocument:
            Action: ec2:CreateNetworkInterface
  Other:
    Action: ec2:DeleteTags
"#;
    let found = allowed(template, &POLICIES);
    let expected = ["cloudwatch:DescribeAlarms", "ec2:AssociateAddress", "ec2:DescribeTags"];
    assert_eq!(found, expected.iter().map(|&action| action.to_owned()).collect());
}

/// The templates take each prefix that ends with a colon and is no longer than a tag's key allows.
#[test]
fn the_templates_take_prefixes_as_long_as_the_function_does() {
    let pattern = "[A-Za-z0-9][A-Za-z0-9_.-]{0,55}:";
    for file in ["infra/template.yaml", "infra/cdk/lib/elastic-ip-failover.ts"] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        assert!(text.contains(pattern), "{file}");
    }
    let taken = |length: usize| prefix(&format!("{}:", "p".repeat(length - 1))).is_ok();
    assert_eq!((taken(1 + 55 + 1), taken(1 + 55 + 2)), (true, false));
}
