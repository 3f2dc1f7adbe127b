//! The tasks of one server: each has its owner here, and they end in order.
//!
//! What serves clients ends first, within a time; then what the server does by itself; and last the cache's
//! reader of the store, which the others read from. No task is left when a server has ended, also one that
//! could not start.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long requests under way may take to end once the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Tasks that end together.
#[derive(Clone, Default)]
pub(crate) struct Group {
    tracker: TaskTracker,
    stop: CancellationToken,
    cut: CancellationToken,
}

impl Group {
    /// Cancelled when the tasks are to end.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Spawns a task that is dropped where it stands when the group is to end.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }

    /// Spawns a task that is waited for when the group is to end: it watches [`Group::stop`] itself, or
    /// is short. Its handle returns `None` where the time for that is over.
    pub(crate) fn spawn_to_end<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        let cut = self.cut.clone();
        self.tracker.spawn(async move { cut.run_until_cancelled(task).await })
    }

    /// Ends the tasks and waits until they have ended.
    async fn end(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Aborts the tasks.
    fn abort(&self) {
        self.stop.cancel();
        self.cut.cancel();
    }
}

/// All tasks of a server, by when they end.
#[derive(Default)]
pub(crate) struct Tasks {
    /// Connections and tunnels.
    pub(crate) serving: Group,
    /// What the server does by itself, and writes whose callers no longer wait.
    pub(crate) background: Group,
    /// What keeps the cache.
    pub(crate) cache: Group,
}

impl Tasks {
    /// Ends everything, in order.
    pub(crate) async fn end(&self) {
        if tokio::time::timeout(DRAIN_TIMEOUT, self.serving.end()).await.is_err() {
            tracing::warn!("requests under way were aborted");
            self.serving.abort();
            self.serving.end().await;
        }
        self.background.end().await;
        self.cache.end().await;
    }
}

impl Drop for Tasks {
    /// If the server is dropped and not ended, its tasks end too, though nothing waits for that.
    fn drop(&mut self) {
        for group in [&self.serving, &self.background, &self.cache] {
            group.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn groups_end_one_after_the_other_and_the_cache_last() {
        let tasks = Tasks::default();
        let ended: Arc<Mutex<Vec<&str>>> = Arc::default();
        // The later ones are spawned first and would be the faster ones.
        for (group, name, seconds) in [
            (&tasks.cache, "cache", 0),
            (&tasks.background, "background", 1),
            (&tasks.serving, "serving", 2),
        ] {
            let (stop, ended) = (group.stop().clone(), ended.clone());
            group.spawn_to_end(async move {
                stop.cancelled().await;
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                ended.lock().push(name);
            });
        }
        tasks.end().await;
        assert_eq!(*ended.lock(), ["serving", "background", "cache"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_end_in_time_is_dropped() {
        let tasks = Tasks::default();
        let held = Arc::new(());
        let own = held.clone();
        let task = tasks.serving.spawn_to_end(async move {
            std::future::pending::<()>().await;
            drop(own);
        });
        tasks.end().await;
        assert_eq!((task.await.unwrap(), Arc::strong_count(&held)), (None, 1));
    }

    #[tokio::test]
    async fn tasks_of_a_server_that_is_dropped_end() {
        let tasks = Tasks::default();
        let handles = [&tasks.serving, &tasks.background, &tasks.cache]
            .map(|group| group.spawn_to_end(std::future::pending::<()>()));
        drop(tasks);
        for handle in handles {
            assert_eq!(handle.await.unwrap(), None);
        }
    }
}
