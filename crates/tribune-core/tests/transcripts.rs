//! Runs the transcripts in `testdata`: each holds steps (`> words`) and, under each, what came of it. They are the
//! readable specification of the core. `UPDATE=1 cargo test -p tribune-core` writes the results anew.

mod catalog_script;
mod check_script;
mod dns_script;
mod filter_script;
mod leasing_script;
mod reconcile_script;
mod transcript;

#[test]
fn catalog() {
    transcript::run("catalog", catalog_script::Catalog::default);
}

#[test]
fn filter() {
    transcript::run("filter", filter_script::Things::default);
}

#[test]
fn check() {
    transcript::run("check", check_script::OneCheck::default);
}

#[test]
fn reconcile() {
    transcript::run("reconcile", reconcile_script::Two::default);
}

#[test]
fn dns() {
    transcript::run("dns", dns_script::Dns::default);
}

#[test]
fn kv() {
    transcript::run("kv", leasing_script::Leasing::default);
}

#[test]
fn session() {
    transcript::run("session", leasing_script::Leasing::default);
}

#[test]
fn txn() {
    transcript::run("txn", leasing_script::Leasing::default);
}
