//! The strikes themselves: what is done to which agent, and what then goes on until it ends.
//!
//! It never chooses whom.

use super::{Nemesis, Ongoing, REQUEST};
use crate::cli::output::CliError;
use crate::cli::torture::damage::{self, Part};
use crate::cli::torture::fleet::copy_dir;
use crate::cli::torture::partition::Overlay;
use crate::cli::torture::plan::Harm;
use std::path::PathBuf;
use std::time::Duration;

impl Nemesis<'_> {
    pub(super) async fn kill(&mut self, number: usize, whom: &[usize]) -> Result<Option<Ongoing>, CliError> {
        for agent in whom {
            self.hold(number, *agent);
            self.fleet.strike(*agent)?;
        }
        for agent in whom {
            self.fleet.kill(*agent).await?;
        }
        self.tally.add("kills", whom.len() as u64);
        Ok(Some(Ongoing::Down(whom.to_vec())))
    }

    pub(super) fn pause(&mut self, number: usize, whom: &[usize]) -> Result<Option<Ongoing>, CliError> {
        for agent in whom {
            self.hold(number, *agent);
            self.fleet.pause(*agent)?;
        }
        self.tally.add("pauses", whom.len() as u64);
        Ok(Some(Ongoing::Stopped(whom.to_vec())))
    }

    /// The answer does not matter: the cluster goes on either way.
    pub(super) fn transfer(&self, leader: usize) {
        if let Ok(client) = self.fleet.directory.operator(leader, REQUEST) {
            tokio::spawn(async move {
                let _ = client.transfer(None).await;
                client.close().await;
            });
        }
    }

    pub(super) fn overlay(&mut self, number: usize, overlay: Overlay) -> Option<Ongoing> {
        self.overlays.insert(number, overlay);
        self.set_network();
        Some(Ongoing::Network)
    }

    pub(super) fn leave(&mut self, number: usize, who: usize) -> Result<Option<Ongoing>, CliError> {
        self.wound(who);
        self.hold(number, who);
        self.fleet.agents[who].may_leave = true;
        let client = self.fleet.directory.operator(who, REQUEST)?;
        // The plan goes on meanwhile: what is cut may have to come together before anybody can leave.
        let leaving = tokio::spawn(async move {
            let left = client.leave().await;
            client.close().await;
            left
        });
        self.leaving.push((who, leaving));
        Ok(Some(Ongoing::Left(who)))
    }

    pub(super) async fn clone_of(&mut self, number: usize, who: usize) -> Result<Option<Ongoing>, CliError> {
        self.hold(number, who);
        let copy = self.fleet.spare(&format!("clone-{number}"));
        self.copy(who, copy.clone()).await?;
        Ok(Some(Ongoing::Clone(who, self.fleet.start_on(who, &copy)?)))
    }

    async fn copy(&self, who: usize, to: PathBuf) -> Result<(), CliError> {
        let from = self.fleet.agents[who].data.clone();
        let copied = tokio::task::spawn_blocking(move || copy_dir(&from, &to)).await;
        let copied = copied.map_err(|e| CliError::system("cannot copy a directory", &e, ""))?;
        copied.map_err(|e| CliError::system("cannot copy a directory", &e, "free some space, or use --dir"))
    }

    /// The first time there is nothing old yet: a copy is taken, and the next time it is old.
    pub(super) async fn roll_back(&mut self, number: usize, who: usize) -> Result<Option<Ongoing>, CliError> {
        self.hold(number, who);
        if !self.fleet.stop(who).await? {
            self.tally.add("stop_took_too_long", 1);
        }
        let backup = match self.backups.get(&who) {
            Some(backup) => backup.clone(),
            None => {
                let backup = self.fleet.spare(&format!("backup-{}", self.fleet.name(who)));
                self.copy(who, backup.clone()).await?;
                self.backups.insert(who, backup.clone());
                // It lives on for a while, so that the copy gets old.
                for _ in 0..2 {
                    self.fleet.start(who, false)?;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    self.fleet.stop(who).await?;
                }
                backup
            }
        };
        let (data, aside) = (self.fleet.agents[who].data.clone(), self.fleet.spare(&format!("aside-{number}")));
        let moved = |e| CliError::system("cannot move a directory", &e, "");
        // Copied, not renamed: the directory may lie on a file system of its own.
        copy_dir(&data, &aside).map_err(moved)?;
        self.lose_directory(who)?;
        copy_dir(&backup, &data).map_err(moved)?;
        self.fleet.start(who, false)?;
        Ok(Some(Ongoing::OldCopy(who, aside)))
    }

    pub(super) fn damage(&mut self, who: usize, harm: Harm, part: Part) -> Result<(), CliError> {
        let data = self.fleet.agents[who].data.clone();
        let hurt = damage::inflict(&data, harm, part, &mut self.draw);
        let hurt = hurt.map_err(|e| CliError::system("cannot damage a directory", &e, ""))?;
        for hurt in &hurt {
            let file = hurt.file.strip_prefix(&data).unwrap_or(&hurt.file).display();
            let (bytes, offset) = (hurt.bytes, hurt.offset);
            self.story.say(&format!("  {} {file}: {bytes} bytes at {offset}", self.fleet.name(who)));
        }
        self.tally.add("damages", hurt.len() as u64);
        self.tally.add("damaged_bytes", hurt.iter().map(|hurt| hurt.bytes).sum());
        Ok(())
    }

    /// Each log in another part: whatever one has lost, the others have.
    pub(super) async fn helical(&mut self, number: usize, harm: Harm) -> Result<Option<Ongoing>, CliError> {
        let all = self.free();
        let ongoing = self.kill(number, &all).await?;
        let used = |agent: usize| damage::used(&self.fleet.agents[agent].data).unwrap_or(0);
        let used: Vec<_> = all.iter().map(|agent| used(*agent)).collect();
        let (least, most) = (used.iter().min().copied().unwrap_or(0), used.iter().max().copied().unwrap_or(0));
        // Where their files differ in length, equal parts of them would not hold equal entries.
        if most - least > least / 20 {
            self.tally.add("helical_skipped", 1);
            self.story.say("  their files differ too much: nothing is damaged");
            return Ok(ongoing);
        }
        for agent in &all {
            self.wound(*agent);
            self.damage(*agent, harm, Part::Nth(*agent as u64, all.len() as u64))?;
        }
        Ok(ongoing)
    }

    pub(super) fn lose_directory(&mut self, who: usize) -> Result<(), CliError> {
        let data = &self.fleet.agents[who].data;
        std::fs::remove_dir_all(data).map_err(|e| CliError::system("cannot wipe a directory", &e, ""))
    }

    pub(super) fn fill(&mut self, number: usize) -> Result<Option<Ongoing>, CliError> {
        let Some(disk) = &self.small_disk else { return Ok(None) };
        let agent = disk.agent();
        disk.fill()?;
        self.hold(number, agent);
        Ok(Some(Ongoing::Full(agent)))
    }
}
