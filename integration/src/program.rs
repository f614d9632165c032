//! Which program the tests start.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Names a Consul that the tests are to run against instead of our program.
const PEER: &str = "TRIBUNE_TEST_PEER";

/// Which program to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// Ours, as built together with the tests; `TRIBUNE_PROGRAM` names another build of it.
    Tribune,
    /// Ours, at this path.
    Build(PathBuf),
    /// A Consul at this path, to check that a test expects what is true.
    Consul(PathBuf),
}

impl Program {
    /// Ours, unless `TRIBUNE_TEST_PEER` names a Consul.
    pub fn under_test() -> Self {
        std::env::var_os(PEER).map_or(Self::Tribune, |path| Self::Consul(path.into()))
    }

    /// Whether this is a Consul.
    pub fn is_consul(&self) -> bool {
        matches!(self, Self::Consul(_))
    }

    /// The file to execute.
    pub fn path(&self) -> Result<PathBuf> {
        match self {
            Self::Build(path) | Self::Consul(path) => Ok(path.clone()),
            Self::Tribune => match std::env::var_os("TRIBUNE_PROGRAM") {
                Some(path) => Ok(path.into()),
                None => beside_the_tests(),
            },
        }
    }
}

/// Tests run from `target/<profile>/deps`; the program that Cargo built for them lies one folder up.
fn beside_the_tests() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent).context("the tests run outside a target folder")?;
    let program = folder.join("tribune-under-test");
    if !program.exists() {
        bail!("{} is missing: run the tests with cargo, which builds it", program.display());
    }
    Ok(program)
}
