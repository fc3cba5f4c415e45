//! `quorate certs`: make the authority, issue identities, look at them.
//!
//! It never overwrites a file and never prints a key.

use super::output::{CliError, Exit, Ui};
use super::{Global, find};
use crate::limits::printable;
use clap::Subcommand;
use quorate_certs::{
    AgentName, Authority, CertsError, ClusterId, Finding, Inspection, Kind, Role, Scope, Severity, Subject, Validity,
};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What can be done with certificates.
#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// Make the certificate authority of a new cluster: OUT/ca.pem and OUT/ca.key
    Init {
        /// The directory to make it in; keep ca.key off the machines that run agents
        #[arg(long, env = "QUORATE_OUT", hide_env = true, value_name = "DIR")]
        out: PathBuf,
    },
    /// Issue an identity: OUT/NAME/{ca.pem,cert.pem,key.pem}
    #[command(subcommand)]
    Issue(Issue),
    /// Show what a certificate says
    Inspect {
        /// A certificate file, or a directory with one; by default the directory of --certs
        #[arg(value_name = "PATH")]
        path: Option<PathBuf>,
    },
    /// Check that a directory of certificates can be used; exits 9 if not
    Verify {
        /// The directory; by default the one of --certs
        #[arg(value_name = "DIR")]
        path: Option<PathBuf>,
    },
}

/// For whom.
#[derive(Debug, Subcommand)]
pub(crate) enum Issue {
    /// An identity for an agent
    Agent {
        /// Its name: 1 to 63 of a-z, 0-9 and -
        #[arg(value_name = "NAME")]
        name: AgentName,
        /// The directory of the authority; the identity goes to DIR/NAME
        #[arg(long, env = "QUORATE_OUT", hide_env = true, value_name = "DIR")]
        out: PathBuf,
    },
    /// An identity for a program or a person that uses the cluster
    Client {
        /// Its name: 1 to 63 of a-z, 0-9 and -
        #[arg(value_name = "NAME")]
        name: AgentName,
        /// The most it may do: read, append or admin
        #[arg(long, env = "QUORATE_ROLE", hide_env = true, value_name = "ROLE")]
        role: Role,
        /// The directory of the authority; the identity goes to DIR/NAME
        #[arg(long, env = "QUORATE_OUT", hide_env = true, value_name = "DIR")]
        out: PathBuf,
    },
}

#[derive(Serialize)]
struct Shown<'a> {
    v: u32,
    #[serde(flatten)]
    inspection: &'a Inspection,
}

#[derive(Serialize)]
struct Verified<'a> {
    v: u32,
    path: &'a Path,
    usable: bool,
    findings: &'a [Finding],
}

/// Runs one of the commands.
pub(crate) fn run(global: &Global, command: CertsCommand, ui: &Ui) -> Result<(), CliError> {
    match command {
        CertsCommand::Init { out } => init(&out, ui),
        CertsCommand::Issue(Issue::Agent { name, out }) => issue(&out, |cluster| Subject::agent(cluster, name), ui),
        CertsCommand::Issue(Issue::Client { name, role, out }) => {
            issue(&out, |cluster| Subject::client(cluster, role, name), ui)
        }
        CertsCommand::Inspect { path } => {
            let path = path_or_certs(global, path)?;
            show(&quorate_certs::inspect(&path).map_err(refused)?, ui)
        }
        CertsCommand::Verify { path } => verify(&path_or_certs(global, path)?, ui),
    }
}

fn refused(error: CertsError) -> CliError {
    find::identity_error(&error)
}

fn path_or_certs(global: &Global, path: Option<PathBuf>) -> Result<PathBuf, CliError> {
    path.or_else(|| global.certs.clone()).ok_or_else(|| {
        CliError::new(Exit::Usage, "no certificate is named (neither a path nor --certs)", "name a file or directory")
    })
}

fn init(out: &Path, ui: &Ui) -> Result<(), CliError> {
    let cluster = ClusterId::random().map_err(refused)?;
    Authority::create(cluster).and_then(|authority| authority.save(out)).map_err(refused)?;
    show(&quorate_certs::inspect(&out.join("ca.pem")).map_err(refused)?, ui)?;
    let out = out.display();
    ui.note(&format!("next: quorate certs issue agent a1 --out {out}   (keep {out}/ca.key secret and safe)"));
    Ok(())
}

fn issue(out: &Path, subject: impl FnOnce(ClusterId) -> Subject, ui: &Ui) -> Result<(), CliError> {
    let authority = Authority::load(out).map_err(refused)?;
    let Scope::Cluster(cluster) = authority.scope() else {
        return Err(CliError::new(
            Exit::Config,
            format!("{} is the authority of --dev (it belongs to no cluster)", out.display()),
            "make one for your cluster with `quorate certs init`",
        ));
    };
    let subject = subject(cluster);
    let dir = authority.issue_to(&subject, Validity::default(), out).map_err(refused)?;
    show(&quorate_certs::inspect(&dir).map_err(refused)?, ui)?;
    if subject.is_agent() {
        ui.note(&format!("next: copy {0} to its machine and run: quorate agent --certs {0} --data DIR", dir.display()));
    } else {
        ui.note(&format!("next: quorate members --addr HOST:PORT --certs {}", dir.display()));
    }
    Ok(())
}

fn show(inspection: &Inspection, ui: &Ui) -> Result<(), CliError> {
    if ui.is_json() {
        return ui.json(&Shown { v: 1, inspection });
    }
    let kind = match inspection.kind {
        Kind::Authority => "authority",
        Kind::Agent => "agent",
        Kind::Client => "client",
        Kind::Unknown => "unknown",
    };
    let row = |name: &str, value: &str| ui.line(&format!("{name:<12} {}", printable(value)));
    row("file", &inspection.path.display().to_string())?;
    row("kind", kind)?;
    if let Some(name) = &inspection.name {
        row("name", name)?;
    }
    if let Some(role) = inspection.role {
        row("role", role.as_str())?;
    }
    row("cluster", &inspection.cluster.map_or_else(|| "-".into(), |cluster| cluster.to_string()))?;
    row("subject", &inspection.subject)?;
    row("issuer", &inspection.issuer)?;
    row("valid from", &inspection.not_before.to_string())?;
    row("valid until", &inspection.not_after.to_string())?;
    row("serial", &inspection.serial)?;
    row("fingerprint", &inspection.fingerprint)
}

fn verify(path: &Path, ui: &Ui) -> Result<(), CliError> {
    let findings = quorate_certs::verify(path);
    let usable = !findings.is_empty() && findings.iter().all(|finding| finding.severity != Severity::Error);
    if ui.is_json() {
        ui.json(&Verified { v: 1, path, usable, findings: &findings })?;
    } else {
        for finding in &findings {
            let severity = match finding.severity {
                Severity::Good => "ok",
                Severity::Warning => "warning",
                Severity::Error => "error",
            };
            let path = finding.path.display().to_string();
            ui.line(&format!("{severity:<8} {}: {}", printable(&path), printable(&finding.text)))?;
        }
    }
    if usable {
        return Ok(());
    }
    let why = if findings.is_empty() { "there is no certificate in it" } else { "see the errors above" };
    let what = format!("{} cannot be used ({why})", path.display());
    Err(CliError::new(Exit::Unhealthy, what, "issue a new identity with `quorate certs issue`"))
}
