//! An agent inside a program: it founds a cluster of one, appends, tails and asks for its status.
//!
//! `cargo run --example embedded`

use quorate::api::TailFrom;
use quorate::certs::{AgentName, Authority, ClusterId, Identity, Role, Subject, VALIDITY_LEAF_DAYS, Validity};
use quorate::client::{Client, ConnectOptions};
use quorate::config::{AgentOptions, Config};
use quorate::record::Record;
use quorate::server::Agent;
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    // Identities: one authority, one agent, one client that may append. A real program gets them as files.
    let home = tempfile::tempdir()?;
    let cluster = ClusterId::random()?;
    let authority = Authority::create(cluster)?;
    let validity = Validity::days(VALIDITY_LEAF_DAYS);
    let agent = Subject::agent(cluster, AgentName::new("solo")?);
    let certs = authority.issue_to(&agent, validity, home.path())?;
    let client = Subject::client(cluster, Role::Append, AgentName::new("app")?);
    let client = Identity::from_issued(&authority.issue(&client, validity)?)?;

    // The agent lives on a thread of its own; dropping it stops it.
    let config = Config {
        data: Some(home.path().join("data")),
        certs: Some(certs),
        bind: "127.0.0.1:0".parse()?,
        bootstrap: true,
        ..Config::default()
    };
    let agent = Agent::start(AgentOptions::resolve(&config)?)?;
    println!("agent {} listens on {}", agent.name(), agent.addr());

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::connect(ConnectOptions::new([agent.addr().to_string()], client)).await?;
        let words = ["one", "two", "three"].map(Record::of);
        let appended = client.append(&words).await?;
        println!("offsets {}..{} are on disk", appended.first, appended.last);

        let mut tail = client.tail(TailFrom::default());
        while let Some(item) = tail.next().await {
            let item = item?;
            println!("{}: {}", item.offset, String::from_utf8_lossy(&item.stored.record.value));
        }
        let status = client.status().await?;
        println!("{} leads log {} in term {}", status.name, status.log_id.unwrap_or_default(), status.term);
        client.close().await;
        Ok(())
    })
}
