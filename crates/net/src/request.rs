//! A request in progress, and its connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::gate::ConnectionPermit;

/// The connection of a request, as an extension of the request.
#[derive(Clone)]
pub struct Connected(pub(crate) Arc<ConnectionPermit>);

impl Connected {
    /// Marks the connection as authenticated, so that it keeps its place. The connections of a `user` are
    /// counted together; without one the connection is not counted.
    pub fn authenticated(&self, user: Option<&str>) {
        self.0.authenticated(user);
    }
}

impl std::fmt::Debug for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connected(..)")
    }
}

/// A request in progress, until its response has been sent.
pub(crate) struct Request {
    permit: Arc<ConnectionPermit>,
    may_pause: bool,
}

impl Request {
    pub(crate) fn begin(permit: &Arc<ConnectionPermit>) -> Self {
        permit.activity.begin();
        Self { permit: permit.clone(), may_pause: false }
    }

    /// For a response that its client may leave unread.
    pub(crate) fn allow_pauses(mut self) -> Self {
        self.may_pause = true;
        self.permit.activity.may_pause.fetch_add(1, Ordering::AcqRel);
        self
    }

    /// For a connection that is no longer HTTP.
    pub(crate) fn become_tunnel(self) {
        self.permit.activity.become_tunnel();
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if self.may_pause {
            self.permit.activity.may_pause.fetch_sub(1, Ordering::AcqRel);
        }
        self.permit.activity.end();
    }
}
