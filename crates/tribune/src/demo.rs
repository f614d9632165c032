//! Two federated datacenters on this machine, for the first five minutes: three servers and one, each a process of
//! its own, with certificates that exist for this one time, services with real checks, and a link between the
//! datacenters that can be cut.
//!
//! ```text
//!   plan ─▶ certificates, configuration ─▶ process        the agents
//!     └───▶ instance, link                                 what they check, and the road between them
//!   stage holds all of it and looks at it (view: ask, dig); tour acts on it; screen and guide show it; keys drive it
//! ```
//!
//! Read the modules in this order.

mod ports;

mod plan;

mod folder;

mod configuration;

mod certificates;

mod process;

mod instance;

mod link;

mod ask;
mod dig;

mod view;

mod screen;

mod guide;

mod stage;

mod tour;

mod keys;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub(crate) use process::end_with_parent;

use keys::Keys;
use screen::{Screen, duration};
use stage::Stage;

/// How long the whole tour of the script may take.
const SCRIPT_WAIT: Duration = Duration::from_secs(240);

/// What the demo is to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// Whether it shows everything by itself and ends.
    pub(crate) script: bool,
    /// Whether it stays after that.
    pub(crate) keep_alive: bool,
    /// Servers of the first datacenter.
    pub(crate) servers: u8,
}

/// Runs the demo until its script, a key or a signal ends it. Failure means that something in it did not go as it
/// should.
pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    // One thread: the system ends agents with the thread that started them, so it has to be one that stays.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(live(options));
    // A thread may still be waiting for a key.
    runtime.shutdown_background();
    ended
}

async fn live(options: Options) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let mut screen = Screen::new();
    screen.heading("Tribune: two datacenters on this machine, federated");
    let mut stage = tokio::select! {
        stage = Stage::set(options.servers, screen) => stage?,
        () = signals.next() => return Ok(ExitCode::FAILURE),
    };
    let played = tokio::select! {
        played = play(&mut stage, options) => played,
        () = signals.next() => {
            stage.screen.heading("Stopped by a signal");
            if options.script { Err(anyhow::anyhow!("the tour was not finished")) } else { Ok(()) }
        }
    };
    stage.screen.text("\n  ending the agents and removing their files");
    tokio::select! {
        () = stage.end() => {}
        () = signals.next() => {}
    }
    played.map(|()| ExitCode::SUCCESS)
}

async fn play(stage: &mut Stage, options: Options) -> anyhow::Result<()> {
    tour::be_ready(stage).await?;
    stage.screen.text(&format!("\nReady in {}.\n", duration(stage.began.elapsed())));
    stage.screen.text(guide::map(&stage.plan).trim_end());
    if options.script {
        let tour = tokio::time::timeout(SCRIPT_WAIT, tour::script(stage));
        tour.await.with_context(|| format!("the tour takes longer than {}", duration(SCRIPT_WAIT)))??;
        if !stage.troubles.is_empty() {
            bail!("not as it should be:\n  {}", stage.troubles.join("\n  "));
        }
        stage.screen.heading(&format!("All seen in {}", duration(stage.began.elapsed())));
        if !options.keep_alive {
            return Ok(());
        }
    }
    by_hand(stage).await
}

/// Does what the keys say, until one says to end.
async fn by_hand(stage: &mut Stage) -> anyhow::Result<()> {
    let mut keys = Keys::open();
    show_guide(stage, &keys);
    loop {
        let key = tokio::select! {
            key = keys.next() => key,
            failed = stage.watch() => return failed,
        };
        match key {
            'w' => tour::link(stage).await?,
            'i' => tour::instance(stage).await?,
            'l' => tour::leader(stage).await?,
            'h' | '?' => show_guide(stage, &keys),
            'q' => return Ok(()),
            _ => {}
        }
    }
}

fn show_guide(stage: &mut Stage, keys: &Keys) {
    stage.screen.heading("To try in another terminal");
    let commands = guide::commands(&stage.plan, &program());
    stage.screen.text(commands.trim_end());
    if keys.are_at_hand() {
        stage.screen.heading("Keys");
        let keys = guide::KEYS.map(|(key, about)| format!("  {key}  {about}\n"));
        stage.screen.text(keys.concat().trim_end());
    } else {
        stage.screen.text(
            "No terminal gives keys: SIGTERM or Ctrl-C ends the demo; -script shows everything by itself.",
        );
    }
}

/// How this program is called from here.
fn program() -> String {
    let path = std::env::current_exe().unwrap_or_else(|_| "tribune".into());
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(&path).display().to_string()
}

/// The signals that end the demo.
struct Signals([Signal; 3]);

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("the system does not let the demo handle signals");
        Ok(Self([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            // The terminal was closed.
            listen(SignalKind::hangup())?,
        ]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
