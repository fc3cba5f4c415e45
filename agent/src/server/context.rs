//! What every client stream may use, and how its requests reach the node.
//!
//! It never looks into a request.

use super::disk::Disk;
use crate::node::{Published, What};
use crate::wire::rpc::Response;
use quorate_transport::Endpoint;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

/// What every stream may use.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) requests: mpsc::Sender<Asked>,
    pub(super) published: watch::Receiver<Arc<Published>>,
    pub(super) disk: Disk,
    pub(super) endpoint: Endpoint,
    pub(super) stop: watch::Receiver<bool>,
}

/// One request on its way to the node.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) who: String,
    pub(super) patience: Duration,
    pub(super) what: What,
    pub(super) reply: Replier,
}

/// Where the answer of one request goes. Dropping it answers nothing.
#[derive(Debug)]
pub(super) struct Replier {
    id: u64,
    out: mpsc::UnboundedSender<(u64, Response, OwnedSemaphorePermit)>,
    permit: OwnedSemaphorePermit,
}

impl Replier {
    pub(super) fn new(
        id: u64,
        out: mpsc::UnboundedSender<(u64, Response, OwnedSemaphorePermit)>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self { id, out, permit }
    }

    /// Sends the answer; a client that is gone does not hear it.
    pub(super) fn send(self, response: Response) {
        let _ = self.out.send((self.id, response, self.permit));
    }
}

/// Resolves when the agent stops.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
