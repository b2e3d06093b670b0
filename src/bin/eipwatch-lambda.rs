//! The Lambda function.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    eipwatch::lambda::run().await
}
