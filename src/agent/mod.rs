//! The node agent: local checks, and a heartbeat in the instance's own tags.
//!
//! [`beat`] decides what is checked and written, and when: it is fed and asked, and knows no clock, like the core.
//! [`local`] makes the checks on this machine. [`run`] puts the two together with a [`run::Home`], the seam to the
//! instance's metadata and its tags.
//!
//! Architecture invariant: the agent reads nothing of EC2 and moves nothing. Its only call is to write its one tag.

#[cfg(feature = "aws")]
pub mod aws;
pub mod beat;
pub mod check;
pub mod local;
pub mod notify;
pub mod options;
pub mod run;
#[cfg(feature = "aws")]
pub mod start;

/// A file of a test's own, which goes when it goes.
#[cfg(test)]
struct Scratch(std::path::PathBuf);

#[cfg(test)]
impl Scratch {
    fn new(name: &str) -> Scratch {
        Scratch(std::env::temp_dir().join(format!("eipwatch-agent-{}-{name}", std::process::id())))
    }
}

#[cfg(test)]
impl std::ops::Deref for Scratch {
    type Target = std::path::Path;
    fn deref(&self) -> &std::path::Path {
        &self.0
    }
}

#[cfg(test)]
impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
