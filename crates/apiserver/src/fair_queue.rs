//! A bounded number of workers, shared fairly: a queue for each user, one job of each after the other.
//!
//! A job that waits is its caller's future: when the caller drops it or its time is over, the job never
//! begins, and the queue goes on to the next.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

/// Jobs of one user that wait for a worker.
const USER_WAITING_MAX: usize = 32;
/// Jobs of all users that wait for a worker.
const WAITING_MAX: usize = 512;

/// There are too many jobs of this user, or of all, before this one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct QueueFull;

/// The workers, and the jobs that wait for one.
pub(crate) struct FairQueue {
    state: Mutex<State>,
    workers: usize,
    /// Workers that one user may have at a time: one worker is left for the others.
    user_workers: usize,
}

#[derive(Default)]
struct State {
    running: usize,
    waiting: usize,
    users: HashMap<String, User>,
    /// Users with jobs that wait, the next one first.
    ring: VecDeque<String>,
}

#[derive(Default)]
struct User {
    running: usize,
    waiting: VecDeque<oneshot::Sender<Worker>>,
}

/// The right to one worker, released when dropped.
pub(crate) struct Worker {
    queue: Option<Arc<FairQueue>>,
    user: String,
}

/// How many workers there are where so many are wanted: at least two, so that one user cannot have
/// them all.
pub(crate) fn workers(wanted: usize) -> usize {
    wanted.max(2)
}

impl FairQueue {
    /// A queue for so many workers, as [`workers`] counts them.
    pub(crate) fn with_workers(count: usize) -> Arc<Self> {
        let workers = workers(count);
        Arc::new(Self { state: Mutex::default(), workers, user_workers: workers - 1 })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Waits for a worker.
    ///
    /// # Errors
    /// [`QueueFull`], immediately.
    pub(crate) async fn acquire(self: &Arc<Self>, user: &str) -> Result<Worker, QueueFull> {
        let waits = {
            let mut state = self.lock();
            let State { running, waiting, users, ring } = &mut *state;
            let own = users.entry(user.to_owned()).or_default();
            let before = own.waiting.len();
            own.waiting.retain(|job| !job.is_closed());
            *waiting -= before - own.waiting.len();
            if *running < self.workers && own.running < self.user_workers && own.waiting.is_empty()
            {
                *running += 1;
                own.running += 1;
                return Ok(Worker { queue: Some(self.clone()), user: user.to_owned() });
            }
            if own.waiting.len() >= USER_WAITING_MAX || *waiting >= WAITING_MAX {
                state.forget_if_idle(user);
                return Err(QueueFull);
            }
            let (job, waits) = oneshot::channel();
            own.waiting.push_back(job);
            *waiting += 1;
            if !ring.iter().any(|one| one == user) {
                ring.push_back(user.to_owned());
            }
            waits
        };
        // The sender is dropped only by a queue that has seen that this job no longer waits.
        waits.await.map_err(|_| QueueFull)
    }

    /// Assigns free workers to jobs that wait.
    fn assign_workers(self: &Arc<Self>, state: &mut State) {
        let mut passed_over = 0;
        while state.running < self.workers && passed_over < state.ring.len() {
            let Some(name) = state.ring.pop_front() else { break };
            let Some(user) = state.users.get_mut(&name) else { continue };
            if user.running >= self.user_workers {
                state.ring.push_back(name);
                passed_over += 1;
                continue;
            }
            let Some(job) = user.waiting.pop_front() else {
                state.forget_if_idle(&name);
                continue;
            };
            state.waiting -= 1;
            match job.send(Worker { queue: Some(self.clone()), user: name.clone() }) {
                Ok(()) => {
                    user.running += 1;
                    state.running += 1;
                    passed_over = 0;
                }
                // The job no longer waits; it never had the worker.
                Err(mut worker) => worker.queue = None,
            }
            if user.waiting.is_empty() {
                state.forget_if_idle(&name);
            } else {
                state.ring.push_back(name);
            }
        }
    }

    /// Jobs under way and jobs that wait.
    #[cfg(test)]
    fn load(&self) -> (usize, usize) {
        let state = self.lock();
        (state.running, state.waiting)
    }
}

impl State {
    fn forget_if_idle(&mut self, user: &str) {
        if self.users.get(user).is_some_and(|it| it.running == 0 && it.waiting.is_empty()) {
            self.users.remove(user);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let Some(queue) = self.queue.take() else { return };
        let mut state = queue.lock();
        state.running -= 1;
        if let Some(user) = state.users.get_mut(&self.user) {
            user.running -= 1;
        }
        state.forget_if_idle(&self.user);
        queue.assign_workers(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn one_user_leaves_a_worker_to_the_others_and_each_gets_its_turn() {
        let queue = FairQueue::with_workers(2);
        let held = queue.acquire("flood").await.unwrap();
        let mut flood: Vec<_> = (0..3).map(|_| Box::pin(queue.acquire("flood"))).collect();
        for waits in &mut flood {
            assert!(waits.as_mut().now_or_never().is_none(), "one worker is for others");
        }
        let other = queue.acquire("calm").await.unwrap();
        let mut late = Box::pin(queue.acquire("late"));
        assert!(late.as_mut().now_or_never().is_none());
        // The flood's next job is first in line, the other user's comes before its second.
        drop(held);
        let second = flood.remove(0).await.unwrap();
        drop(second);
        let late = late.await.unwrap();
        assert_eq!(queue.load(), (2, 2));
        drop((other, late));
        drop(flood.remove(0).await.unwrap());
        drop(flood.remove(0).await.unwrap());
        assert_eq!(queue.load(), (0, 0));
        assert!(queue.lock().users.is_empty());
    }

    #[tokio::test]
    async fn a_job_whose_caller_dropped_it_never_begins() {
        let queue = FairQueue::with_workers(2);
        let held = queue.acquire("a").await.unwrap();
        let mut dropped = Box::pin(queue.acquire("a"));
        assert!(dropped.as_mut().now_or_never().is_none());
        let mut next = Box::pin(queue.acquire("a"));
        assert!(next.as_mut().now_or_never().is_none());
        drop(dropped);
        drop(held);
        assert_eq!(queue.load(), (1, 0));
        drop(next.await.unwrap());
        assert_eq!(queue.load(), (0, 0));
    }

    #[tokio::test]
    async fn a_turn_that_comes_when_its_caller_goes_is_passed_on() {
        let queue = FairQueue::with_workers(2);
        let held = queue.acquire("a").await.unwrap();
        let mut dropped = Box::pin(queue.acquire("a"));
        assert!(dropped.as_mut().now_or_never().is_none());
        drop(held);
        assert_eq!(queue.load(), (1, 0));
        drop(dropped);
        assert_eq!(queue.load(), (0, 0));
    }

    #[tokio::test]
    async fn more_jobs_of_a_user_than_may_wait_are_refused_and_another_users_is_not() {
        let queue = FairQueue::with_workers(2);
        let _held = queue.acquire("flood").await.unwrap();
        let mut waiting: Vec<_> =
            (0..USER_WAITING_MAX).map(|_| Box::pin(queue.acquire("flood"))).collect();
        for waits in &mut waiting {
            assert!(waits.as_mut().now_or_never().is_none());
        }
        assert_eq!(queue.acquire("flood").await.err(), Some(QueueFull));
        assert!(queue.acquire("calm").await.is_ok());
        waiting.pop();
        assert!(Box::pin(queue.acquire("flood")).now_or_never().is_none(), "a place is free again");
    }
}
