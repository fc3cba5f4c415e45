//! What every client stream may use, and how its requests reach the node.
//!
//! It never looks into a request.

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
    pub(super) what: What,
}

/// Where the answers of one stream go. Dropping it answers nothing.
#[derive(Debug, Clone)]
pub(super) struct Replies(mpsc::UnboundedSender<(u64, Response)>);

impl Replies {
    /// The sending end, and where the answers come out. Their number is bounded by who lets the requests in.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<(u64, Response)>) {
        let (sender, answers) = mpsc::unbounded_channel();
        (Self(sender), answers)
    }

    /// Sends one answer; a client that is gone does not hear it.
    pub(super) fn send(&self, id: u64, response: Response) {
        let _ = self.0.send((id, response));
    }
}

/// Resolves when the agent stops.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
