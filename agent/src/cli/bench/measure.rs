//! The order of a measurement: floor, run, floor, run, floor; and what is told of it on the way.
//!
//! It never lets two of them overlap.

use super::BenchArgs;
use super::crew::{Crew, Job, Pace};
use super::floor::{Floor, Ground};
use super::load::{Measured, Window};
use super::notes;
use super::processes::Workers;
use super::progress::Progress;
use super::report::{AgentObject, ClusterObject, LoadObject, Report, Row, Summary};
use super::table;
use super::target::Target;
use super::usage;
use super::verify::{self, Checker, Verdict};
use crate::cli::output::{CliError, Exit, Ui, thousands};
use crate::limits::printable;

/// Most appends of a run whose outcomes are remembered, by all processes together: 32 bytes each while they are checked.
const OUTCOMES_MAX: usize = 32 << 20;

/// Everything a measurement needs.
pub(super) struct Bench<'a> {
    pub(super) args: &'a BenchArgs,
    pub(super) target: &'a Target,
    pub(super) ground: &'a Ground,
    /// Was the cluster started for this.
    pub(super) own: bool,
    pub(super) ui: &'a Ui,
    pub(super) progress: &'a Progress,
}

impl Bench<'_> {
    /// Measures every level, as often as was asked for.
    pub(super) async fn run(&self, paces: &[Pace]) -> Result<Report, CliError> {
        let scheduled = paces.iter().any(|pace| matches!(pace, Pace::Rate { .. }));
        let mut agents = self.agents();
        let mut report = self.empty();
        self.line(&self.headline())?;
        report.floors.push(self.floor().await?);
        self.line_if(table::floor(&report.floors[0], self.ground.writers))?;
        self.line(&table::header(scheduled))?;
        for run in 1..=self.args.runs {
            for pace in paces {
                self.progress.say(&format!("run {run} of {}, {}", self.args.runs, said(pace)));
                let (row, verdict) = self.one(*pace).await?;
                let before = report.floors.last().cloned().unwrap_or_default();
                let after = self.floor().await?;
                let row = Row { run, ..row }.beside(&before, &after);
                self.line(&table::row(&row))?;
                report.floors.push(after);
                report.runs.push(row);
                if let Some(verdict) = verdict {
                    report.verify.get_or_insert_with(Verdict::default).add(verdict);
                }
            }
        }
        for agent in &mut agents {
            agent.1.after = usage::process(agent.0);
        }
        report.agents = agents.into_iter().map(|(_, agent)| agent).collect();
        report.stages =
            Some(self.target.aim().await?.status).filter(|s| s.leader.as_ref() == Some(&s.name)).map(|s| s.append);
        report.summary = Summary::of_all(&report.runs);
        report.notes = notes::about(&report, self.ground);
        self.tell_the_rest(&report)?;
        Ok(report)
    }

    fn tell_the_rest(&self, report: &Report) -> Result<(), CliError> {
        if self.args.runs > 1 {
            for all in &report.summary {
                self.line(&table::summary(all))?;
            }
        }
        self.line_if(report.floors.last().and_then(|floor| table::floor(floor, self.ground.writers)))?;
        self.line_if(report.stages.as_ref().map(table::stages))?;
        for agent in &report.agents {
            self.line_if(table::agent(agent))?;
        }
        if report.runs.iter().all(|row| row.forwarded == 0) {
            self.line("every append went to the leader directly")?;
        }
        self.line_if(report.verify.as_ref().map(table::verdict))?;
        for note in &report.notes {
            self.line(&format!("note: {}", printable(note)))?;
        }
        Ok(())
    }

    fn line(&self, text: &str) -> Result<(), CliError> {
        if self.ui.is_json() {
            return Ok(());
        }
        self.progress.aside(|| self.ui.line(text).and_then(|()| self.ui.flush()))
    }

    fn line_if(&self, text: Option<String>) -> Result<(), CliError> {
        text.map_or(Ok(()), |text| self.line(&text))
    }

    fn headline(&self) -> String {
        let (args, target) = (self.args, self.target);
        let plural = |n: u32, what: &str| format!("{} {what}{}", thousands(n.into()), if n == 1 { "" } else { "s" });
        let batch =
            if args.batch > 1 { format!(", {} an append", thousands(args.batch.into())) } else { String::new() };
        format!(
            "{} {} quorate {}, {} leads; records of {} bytes{batch}; {} with {} each; {}",
            target.voters,
            if target.voters == 1 { "agent votes," } else { "agents vote," },
            printable(&target.version),
            printable(&target.leader),
            thousands(args.size.into()),
            if args.processes == 1 { "1 process".into() } else { format!("{} processes", args.processes) },
            plural(args.clients, "connection"),
            plural(u32::try_from(usage::cpus()).unwrap_or(u32::MAX), "CPU"),
        )
    }

    fn empty(&self) -> Report {
        let (args, target) = (self.args, self.target);
        Report {
            v: 1,
            cluster: ClusterObject {
                own: self.own,
                version: target.version.clone(),
                voters: target.voters,
                leader: target.leader.clone(),
                local: target.is_local(),
                cpus: usage::cpus(),
            },
            load: LoadObject {
                size: args.size,
                batch: args.batch,
                clients: args.clients,
                processes: args.processes,
                warm_up_s: args.warm_up.as_secs_f64(),
                duration_s: args.duration.as_secs_f64(),
            },
            runs: Vec::new(),
            floors: Vec::new(),
            summary: Vec::new(),
            agents: Vec::new(),
            stages: None,
            verify: None,
            notes: Vec::new(),
        }
    }

    fn agents(&self) -> Vec<(u32, AgentObject)> {
        let of = |agent: &super::target::Local| {
            let told = AgentObject { name: agent.name.clone(), before: usage::process(agent.pid), after: None };
            (agent.pid, told)
        };
        self.target.local.iter().map(of).collect()
    }

    async fn floor(&self) -> Result<Floor, CliError> {
        self.progress.say("what the disk and the network can do at best");
        let ground = self.ground.clone();
        tokio::task::spawn_blocking(move || Floor::measure(&ground))
            .await
            .map_err(|e| CliError::system("the floor could not be measured", &e, "leave it out with --floor 0s"))
    }

    /// One run at one level.
    async fn one(&self, pace: Pace) -> Result<(Row, Option<Verdict>), CliError> {
        // The leader may have changed since the last run.
        let aim = self.target.aim().await?;
        let jobs = self.jobs(pace, &aim.addrs)?;
        // CPU time counts as that of the agents only if all of them can be seen.
        let agents: Vec<_> =
            self.target.local.iter().filter(|_| self.target.is_local()).map(|agent| agent.pid).collect();
        let (all, used) = match &*jobs {
            [job] => {
                let crew = Crew::gather(job.clone(), &self.target.identity).await?;
                let window = Window::after(self.args.warm_up, self.args.duration);
                let here = [std::process::id()];
                let used = async { Ok(usage::within(window, &agents, &here).await) };
                // A load that fails ends at once.
                let (measured, used) = tokio::try_join!(crew.work(window), used)?;
                (vec![measured], used)
            }
            jobs => {
                let mut workers = Workers::start(jobs).await?;
                workers.go().await?;
                let window = Window::after(self.args.warm_up, self.args.duration);
                let pids = workers.pids();
                let used = async { Ok(usage::within(window, &agents, &pids).await) };
                tokio::try_join!(workers.finish(), used)?
            }
        };
        let mut together = Measured::default();
        all.iter().for_each(|measured| together.add(measured));
        if together.acked == 0 {
            let why = together.failure.unwrap_or_else(|| "no append was acknowledged in time".into());
            let what = format!("nothing was acknowledged while it was measured ({why})");
            return Err(CliError::new(Exit::NoQuorum, what, "look at `quorate status`, or measure longer"));
        }
        let row = Row::of(&together, pace, &self.empty().load, self.args.duration).with_usage(used);
        if !self.args.verify {
            return Ok((row, None));
        }
        self.progress.say("every record is read back");
        let checkers = jobs.iter().zip(all);
        let checkers = checkers.map(|(job, told)| Checker::new(job.payload(), job.batch.into(), told.outcomes));
        let client = self.target.client()?;
        let verdict = verify::read_back(&client, aim.next, checkers.collect()).await?;
        client.close().await;
        Ok((row, Some(verdict)))
    }

    fn jobs(&self, pace: Pace, addrs: &[String]) -> Result<Vec<Job>, CliError> {
        let (args, target) = (self.args, self.target);
        let mut id = [0; 8];
        getrandom::fill(&mut id).map_err(|e| CliError::system("the system has no randomness", &e, "run it again"))?;
        let first = u64::from_le_bytes(id);
        let of = |process: u32| Job {
            addrs: addrs.to_vec(),
            certs: target.certs.clone(),
            timeout: target.timeout,
            run: first.wrapping_add(process.into()),
            size: args.size as usize,
            batch: args.batch,
            clients: args.clients,
            pace,
            process: (process, args.processes),
            warm_up: args.warm_up,
            duration: args.duration,
            keep: if args.verify { OUTCOMES_MAX / args.processes as usize } else { 0 },
        };
        Ok((0..args.processes).map(of).collect())
    }
}

fn said(pace: &Pace) -> String {
    match pace {
        Pace::Closed { in_flight } => format!("{} in flight", thousands((*in_flight).into())),
        Pace::Rate { per_second, .. } => format!("{} records a second", thousands(*per_second as u64)),
    }
}
