//! What every client stream may use, and how its requests reach the node.
//!
//! It never looks into a request.

use super::backlog::{Backlog, Purse};
use super::disk::Disk;
use crate::node::{Published, What};
use crate::wire::rpc::Response;
use quorate_transport::Endpoint;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// What every stream may use.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) requests: mpsc::Sender<Asked>,
    pub(super) published: watch::Receiver<Arc<Published>>,
    pub(super) disk: Disk,
    pub(super) endpoint: Endpoint,
    pub(super) backlog: Backlog,
    pub(super) stop: watch::Receiver<bool>,
}

/// Requests on their way to the node, read off one stream together.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) who: Arc<str>,
    pub(super) replies: Replies,
    pub(super) requests: Vec<One>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct One {
    /// As its asker named it.
    pub(super) id: u64,
    pub(super) patience: Duration,
    /// What it holds of the backlog until its answer is on its way, in bytes.
    pub(super) cost: usize,
    pub(super) what: What,
}

/// Where the answers of one stream go. Dropping it answers nothing.
#[derive(Debug, Clone)]
pub(super) struct Replies {
    out: mpsc::UnboundedSender<Reply>,
    /// What the requests of the stream hold: it goes back when the last of them has ended, whoever is gone before.
    purse: Option<Arc<Purse>>,
}

/// One answer on its way back.
#[derive(Debug)]
pub(super) struct Reply {
    /// As its asker named the request.
    pub(super) id: u64,
    pub(super) response: Response,
    /// What the request holds of the backlog.
    pub(super) cost: usize,
}

impl Replies {
    /// The sending end, and where the answers come out. Their number is bounded by who lets the requests in.
    pub(super) fn new(purse: Option<Arc<Purse>>) -> (Self, mpsc::UnboundedReceiver<Reply>) {
        let (out, answers) = mpsc::unbounded_channel();
        (Self { out, purse }, answers)
    }

    /// Waits until there is room for requests that cost so much; false if nobody waits for their answers any more.
    pub(super) async fn room(&self, cost: usize) -> bool {
        let Some(purse) = &self.purse else { return true };
        tokio::select! {
            biased;
            _ = purse.take(cost) => true,
            () = self.out.closed() => false,
        }
    }

    /// Sends one answer; a client that is gone does not hear it.
    pub(super) fn send(&self, id: u64, cost: usize, response: Response) {
        let _ = self.out.send(Reply { id, response, cost });
    }
}

/// Resolves when the agent stops.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
