//! Service definitions in files, written as in the agent's configuration and read in the same way.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use tribune_api::agent::{Origin, ServiceDefinition};

use crate::config::{Source, Sources};

/// The services that `files` define. Whatever else a configuration may hold is passed over.
pub(super) fn read(files: &[PathBuf]) -> anyhow::Result<Vec<ServiceDefinition>> {
    let mut all = Vec::new();
    for file in files {
        std::fs::metadata(file)
            .with_context(|| format!("Error: config: Open failed on {}", file.display()))?;
        let sources = Sources { files: vec![Source::Path(file.clone())], ..Sources::default() };
        let (config, _) = sources.read().map_err(|refused| anyhow!("Error: failed to parse {refused}"))?;
        for written in config.services {
            let definition = ServiceDefinition::decode(written, Origin::File)
                .map_err(|error| anyhow!("Error: failed to parse {}: service: {error}", file.display()))?;
            all.push(definition);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(name: &str, text: &str) -> anyhow::Result<Vec<(String, u16, usize)>> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(name);
        std::fs::write(&file, text).unwrap();
        let found = read(&[file])?.into_iter();
        Ok(found.map(|service| (service.name, service.port, service.checks.len())).collect())
    }

    fn check(name: &str, text: &str, expected: &[(&str, u16, usize)]) {
        let expected: Vec<_> =
            expected.iter().map(|&(name, port, checks)| (name.to_owned(), port, checks)).collect();
        assert_eq!(read_as(name, text).unwrap(), expected, "{text}");
    }

    #[test]
    fn services_are_found_in_every_form_that_is_written() {
        check("a.json", r#"{"service": {"name": "web", "port": 80}}"#, &[("web", 80, 0)]);
        check("a.json", r#"{"node_name": "x", "services": [{"Name": "web"}]}"#, &[("web", 0, 0)]);
        let block =
            "service {\n  name = \"web\"\n  check {\n ttl = \"1s\"\n }\n  check {\n ttl = \"2s\"\n }\n}\n";
        check("a.hcl", block, &[("web", 0, 2)]);
        check("a.hcl", "services = [{ name = \"web\", port = 80 }]\n", &[("web", 80, 0)]);
        let two = "services { name = \"a\" }\nservices { name = \"b\" }\n";
        check("a.hcl", two, &[("a", 0, 0), ("b", 0, 0)]);
        check("a.json", "{}", &[]);
    }

    #[test]
    fn errors_name_the_file_and_the_key() {
        let told = |name: &str, text: &str| read_as(name, text).unwrap_err().to_string();
        assert!(told("bad.json", "{").contains("bad.json"));
        let unknown = told("bad.hcl", "service {\n name = \"x\"\n bogus = 1\n}\n");
        assert!(unknown.contains("bad.hcl:3") && unknown.contains("bogus"), "{unknown}");
        let missing = read(&["/no/such/file.json".into()]).unwrap_err().to_string();
        assert_eq!(missing, "Error: config: Open failed on /no/such/file.json");
    }
}
