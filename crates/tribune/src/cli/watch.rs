//! `tribune watch`: shows a view of the registry, or runs a program whenever it changes.

mod handler;
mod keys;

use std::process::ExitCode;

use anyhow::{anyhow, bail};
use futures::StreamExt;
use serde_json::value::RawValue;
use tribune_client::{Answer, Client, Question, catalog, event, health, kv};

use self::handler::Handler;
use self::keys::Shape;
use super::connection::{Connection, Scope, wait_for};
use super::output::{failed, indented, print};

type RawQuestion = Question<Box<RawValue>>;

/// Shows a view once, or runs a program with the view on its standard input now and whenever it changes.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    view: View,
    /// Runs the program with the shell in SHELL; -shell=false runs it directly.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true",
          action = clap::ArgAction::Set, value_parser = clap::builder::BoolishValueParser::new(),
          value_name = "BOOL")]
    shell: bool,
    /// Program and arguments, run at each change.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CHILD")]
    child: Vec<String>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    scope: Scope,
}

/// What is watched.
#[derive(Debug, Default, clap::Args)]
struct View {
    /// What to watch: key, keyprefix, services, nodes, service, checks or event.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// The service: needed by type service, possible with type checks.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only instances with this tag, for type service; may be given several times.
    #[arg(long)]
    tag: Vec<String>,
    /// Only instances whose checks pass, for type service: true or false.
    #[arg(long, value_name = "BOOL")]
    passingonly: Option<String>,
    /// Only checks in this state, for type checks: any, passing, warning or critical.
    #[arg(long)]
    state: Option<String>,
    /// Only events of this name, for type event.
    #[arg(long)]
    name: Option<String>,
    /// The key, for type key.
    #[arg(long)]
    key: Option<String>,
    /// What the keys start with, for type keyprefix.
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let question = arguments.scope.narrow(arguments.view.question()?);
    let client = arguments.connection.client()?;
    let handler = Handler::new(&arguments.child, arguments.shell);
    wait_for(async {
        let shape = arguments.view.shape();
        let Some(handler) = handler else { return show(&client, &question, shape).await };
        tokio::select! {
            ended = follow(&client, question, shape, (&handler, arguments.view.fresh())) => ended,
            stopped = tokio::signal::ctrl_c() => Ok(stopped.map(|()| ExitCode::SUCCESS)?),
        }
    })
}

/// The events that a handler has not been given yet.
#[derive(Debug, Default)]
struct Fresh {
    last: Option<String>,
}

impl Fresh {
    /// Those behind the last one that was given.
    fn of(&mut self, json: &str) -> anyhow::Result<String> {
        let events: Vec<&RawValue> = serde_json::from_str(json)?;
        let ids = events.iter().map(|event| serde_json::from_str::<event::Event>(event.get()));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        let known = ids.iter().position(|event| Some(&event.id) == self.last.as_ref());
        let first = known.map_or(0, |at| at + 1);
        if let Some(last) = ids.last() {
            self.last = Some(last.id.clone());
        }
        Ok(serde_json::to_string(&events[first..])?)
    }
}

impl View {
    /// Of events a handler is given only the new ones.
    fn fresh(&self) -> Option<Fresh> {
        (self.kind.as_deref() == Some("event")).then(Fresh::default)
    }

    fn question(&self) -> anyhow::Result<RawQuestion> {
        let service = self.service.as_deref().filter(|name| !name.is_empty());
        let state = self.state.as_deref().filter(|state| !state.is_empty());
        let question = match (self.kind.as_deref().unwrap_or_default(), service, state) {
            ("key", ..) => kv::get(named(&self.key, "Must specify a single key to watch")?).raw(),
            ("keyprefix", ..) => {
                kv::tree(named(&self.prefix, "Must specify a single prefix to watch")?).raw()
            }
            ("services", ..) => catalog::services().raw(),
            ("nodes", ..) => catalog::nodes().raw(),
            ("service", None, _) => bail!("Must specify a single service to watch"),
            ("service", Some(name), _) => self.instances(name)?,
            ("checks", Some(_), Some(_)) => bail!("Cannot specify service and state"),
            ("checks", Some(name), None) => health::checks(name).raw(),
            ("checks", None, state) => health::state(state.unwrap_or("any")).raw(),
            ("event", ..) => event::list(self.name.as_deref().filter(|name| !name.is_empty())).raw(),
            ("", ..) => bail!(
                "Watch type must be specified: -type=key, keyprefix, services, nodes, service, checks or event"
            ),
            (kind, ..) => bail!("Unsupported watch type: {kind}"),
        };
        Ok(question)
    }

    fn shape(&self) -> Shape {
        match self.kind.as_deref() {
            Some("key") => Shape::Key,
            Some("keyprefix") => Shape::Keys,
            _ => Shape::AsItIs,
        }
    }

    fn instances(&self, service: &str) -> anyhow::Result<RawQuestion> {
        let passing = match self.passingonly.as_deref() {
            None | Some("" | "0" | "f" | "F" | "false" | "FALSE" | "False") => false,
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => true,
            Some(other) => bail!("Failed to parse passingonly flag: {other:?} is neither true nor false"),
        };
        let question = self.tag.iter().fold(health::service(service), |question, tag| question.tag(tag));
        Ok(if passing { question.passing().raw() } else { question.raw() })
    }
}

/// A text that must be there.
fn named<'a>(text: &'a Option<String>, missing: &'static str) -> anyhow::Result<&'a str> {
    text.as_deref().filter(|text| !text.is_empty()).ok_or_else(|| anyhow!(missing))
}

async fn show(client: &Client, question: &RawQuestion, shape: Shape) -> anyhow::Result<ExitCode> {
    let answer = client.ask(question).await.map_err(|error| failed("querying Consul agent", &error))?;
    print(indented(&shape.view(answer.value.get())?))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs the program at each change. An agent that cannot be reached at the start is an error; later it is
/// waited for.
async fn follow(
    client: &Client,
    question: RawQuestion,
    shape: Shape,
    (handler, mut fresh): (&Handler, Option<Fresh>),
) -> anyhow::Result<ExitCode> {
    let mut changes = client.watch(question);
    let mut is_first = true;
    while let Some(change) = changes.next().await {
        match change {
            Ok(Answer { value, index, .. }) => {
                let view = match &mut fresh {
                    None => shape.view(value.get())?,
                    Some(fresh) => fresh.of(value.get())?,
                };
                handler.run(index, &view).await?;
            }
            Err(error) if is_first => return Err(failed("querying Consul agent", &error)),
            Err(error) => eprintln!("{:#}; trying again", failed("querying Consul agent", &error)),
        }
        is_first = false;
    }
    Err(anyhow!("the watch has ended; start it again"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(view: View) -> String {
        view.question().unwrap_err().to_string()
    }

    fn view(kind: &str) -> View {
        View { kind: Some(kind.into()), ..View::default() }
    }

    #[test]
    fn views_that_make_no_sense_are_refused_in_known_words() {
        assert!(told(View::default()).starts_with("Watch type must be specified"));
        assert_eq!(told(view("foo")), "Unsupported watch type: foo");
        assert_eq!(told(view("key")), "Must specify a single key to watch");
        assert_eq!(told(view("keyprefix")), "Must specify a single prefix to watch");
        assert_eq!(told(view("service")), "Must specify a single service to watch");
        let both = View { service: Some("a".into()), state: Some("b".into()), ..view("checks") };
        assert_eq!(told(both), "Cannot specify service and state");
        let odd = View { service: Some("a".into()), passingonly: Some("x".into()), ..view("service") };
        assert!(told(odd).starts_with("Failed to parse passingonly flag"));
    }

    #[test]
    fn a_handler_is_given_each_event_once() {
        let mut fresh = Fresh::default();
        assert_eq!(fresh.of("[]").unwrap(), "[]");
        let (a, b, c) = (r#"{"ID":"a"}"#, r#"{"ID":"b"}"#, r#"{"ID":"c"}"#);
        assert_eq!(fresh.of(&format!("[{a},{b}]")).unwrap(), format!("[{a},{b}]"));
        assert_eq!(fresh.of(&format!("[{a},{b},{c}]")).unwrap(), format!("[{c}]"));
        assert_eq!(fresh.of(&format!("[{a}]")).unwrap(), format!("[{a}]"));
    }

    #[test]
    fn every_other_view_is_a_question() {
        for kind in ["services", "nodes", "checks", "event"] {
            assert!(view(kind).question().is_ok());
        }
        let one = View { service: Some("a".into()), passingonly: Some("true".into()), ..view("service") };
        assert!(one.question().is_ok());
    }
}
