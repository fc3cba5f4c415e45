//! Signals and the service manager: stop, reload, ready. Systems without a signal do without it.

use super::{Agent, Error};
use crate::config::AgentHooks;
use quorate_certs::Identity;
use std::path::Path;
use std::sync::Arc;

/// What the world asks of a running agent.
enum Asked {
    Stop(&'static str),
    Reload,
}

/// Follows signals until the agent has ended.
pub(super) async fn watch(agent: &mut Agent, certs: &Path, hooks: &AgentHooks) -> Result<(), Error> {
    let mut signals = Signals::new().map_err(|source| Error::System { what: "signal handlers", source })?;
    notify_ready(agent);
    loop {
        let asked = tokio::select! {
            ended = agent.ended() => return ended,
            asked = signals.next() => asked,
        };
        match asked {
            Asked::Stop(signal) => {
                tracing::info!("{signal}: stopping; the agent stays a member and comes back with its data");
                notify_stopping();
                agent.stop();
            }
            Asked::Reload => reload(agent, certs, hooks),
        }
    }
}

fn reload(agent: &Agent, certs: &Path, hooks: &AgentHooks) {
    match (hooks.reload)() {
        Ok(done) => tracing::info!("SIGHUP: {done}"),
        Err(error) => tracing::error!("SIGHUP: the configuration in use stays: {error}"),
    }
    match Identity::load(certs) {
        Ok(identity) if identity.subject().name().as_str() == agent.name() => agent.set_identity(Arc::new(identity)),
        Ok(identity) => {
            tracing::error!("SIGHUP: the certificate is of {}, this agent is {}", identity.subject(), agent.name());
        }
        Err(error) => tracing::error!("SIGHUP: the certificate in use stays: {error}"),
    }
}

#[cfg(target_os = "linux")]
fn notify_ready(agent: &Agent) {
    let status = format!("listening on {}", agent.addr());
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(&status)]);
}

#[cfg(target_os = "linux")]
fn notify_stopping() {
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
}

#[cfg(not(target_os = "linux"))]
fn notify_ready(_agent: &Agent) {}

#[cfg(not(target_os = "linux"))]
fn notify_stopping() {}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Stop("Ctrl-C"),
            _ = self.hangup.recv() => Asked::Reload,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Asked {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Asked::Stop("Ctrl-C"),
            Err(_) => std::future::pending().await,
        }
    }
}
