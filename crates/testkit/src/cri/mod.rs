//! A container runtime that runs nothing: CRI v1 on a unix socket, with all it has in memory.
//!
//! It does what a working runtime does and records, in order, what it is asked. A test makes it do
//! otherwise: calls fail or hang ([`FakeCri::fail`], [`FakeCri::hold`]), containers end
//! ([`FakeCri::exit`]), sandboxes get lost, the whole runtime goes and comes back
//! ([`FakeCri::crash`], [`FakeCri::restart`]).
//!
//! ```text
//! kubelet ──CRI──▶ service ──▶ script (fails? hangs?) ──▶ state ◀── the test
//! ```

mod call;
mod script;
mod service;
mod state;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tonic::Status;

pub use self::call::{Call, Recorded, Request};
pub use self::script::Hold;
use self::script::Script;
use self::service::Service;
use self::state::State;
pub use self::state::{Container, Exit, Sandbox};

/// How long the server's thread may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Looks at the machine when a call comes.
type Observer = Box<dyn Fn(&Recorded, &Container) + Send + Sync>;

/// What the service and the test share.
#[derive(Clone, Default)]
struct Shared {
    state: Arc<Mutex<State>>,
    script: Script,
    /// Rings at each change of the state.
    changed: Arc<watch::Sender<u64>>,
    /// Called when a container is about to start.
    on_start: Arc<Mutex<Option<Observer>>>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state());
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
        changed
    }
}

/// What is left of what a runtime had when it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Containers ran on meanwhile.
    Everything,
    /// Containers and sandboxes are there and have ended, as after a reboot.
    Dead,
    /// Sandboxes and containers are forgotten; images are there.
    Nothing,
}

/// The fake runtime. Dropping it closes its socket.
pub struct FakeCri {
    socket: PathBuf,
    shared: Shared,
    /// Its tasks have a runtime of their own, so that a crash ends all of them.
    server: Option<tokio::runtime::Runtime>,
}

impl FakeCri {
    /// Listens on `cri.sock` in `directory`.
    pub fn start(directory: &Path) -> Self {
        let socket = directory.join("cri.sock");
        let mut fake = Self { socket, shared: Shared::default(), server: None };
        fake.listen();
        fake
    }

    fn listen(&mut self) {
        let server = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("fake-cri")
            .enable_all()
            .build()
            .expect("a thread for the fake runtime");
        let listener = std::os::unix::net::UnixListener::bind(&self.socket).expect("a socket");
        listener.set_nonblocking(true).expect("a socket can be");
        server.spawn(service::serve(listener, Service::new(self.shared.clone())));
        self.server = Some(server);
    }

    /// `unix:///…/cri.sock`.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The next `times` calls of a method fail.
    pub fn fail(&self, call: Call, times: u32, status: Status) {
        self.shared.script.fail(call, None, times, status);
    }

    /// The same for calls about one thing: see [`Recorded::about`].
    pub fn fail_about(&self, call: Call, about: &str, times: u32, status: Status) {
        self.shared.script.fail(call, Some(about), times, status);
    }

    /// The next `times` calls of a method return late.
    pub fn delay(&self, call: Call, times: u32, delay: Duration) {
        self.shared.script.delay(call, times, delay);
    }

    /// All calls of a method hang until the handle is released.
    pub fn hold(&self, call: Call) -> Hold {
        self.shared.script.hold(call)
    }

    /// Everything works again.
    pub fn clear_script(&self) {
        self.shared.script.clear();
    }

    /// No registry has this image, by its whole name.
    pub fn no_image(&self, name: &str) {
        self.shared.change(|state| state.missing_images.push(name.to_owned()));
    }

    /// The registry has it now.
    pub fn image_appears(&self, name: &str) {
        self.shared.change(|state| state.missing_images.retain(|missing| missing != name));
    }

    /// This container (`pod/container`) does not end by its stop signal: it is killed after the grace
    /// period.
    pub fn ignores_stop(&self, container: &str) {
        self.shared.change(|state| state.stubborn.push(container.to_owned()));
    }

    /// What commands in this container (`pod/container`) return and print.
    pub fn exec_returns(&self, container: &str, code: i32, output: &str) {
        let result = (code, output.to_owned());
        self.shared.change(|state| state.exec.insert(container.to_owned(), result));
    }

    /// `RuntimeReady` or `NetworkReady` is this from now on.
    pub fn set_condition(&self, name: &str, status: bool, reason: &str, message: &str) {
        self.shared.change(|state| {
            let found = state.conditions.iter_mut().find(|condition| condition.r#type == name);
            let condition = found.expect("one of the runtime's conditions");
            condition.status = status;
            (condition.reason, condition.message) = (reason.to_owned(), message.to_owned());
        });
    }

    /// Looks at the machine each time a container is about to start.
    pub fn on_start(&self, observe: impl Fn(&Recorded, &Container) + Send + Sync + 'static) {
        let observer: Observer = Box::new(observe);
        *self.shared.on_start.lock() = Some(observer);
    }

    /// The running container `pod/container` ends.
    ///
    /// # Panics
    /// When none runs.
    pub fn exit(&self, container: &str, exit: Exit) {
        self.shared.change(|state| {
            let ids: Vec<_> = state.containers.keys().cloned().collect();
            let id = ids
                .iter()
                .find(|id| state.path_of(id) == container && state.containers[*id].is_running());
            let id = id.unwrap_or_else(|| panic!("{container} does not run"));
            state.containers.get_mut(id).expect("just found").finish(exit);
        });
    }

    /// A sandbox of the pod ends with all that runs in it, as when its process is killed.
    pub fn lose_sandbox(&self, pod: &str) {
        self.shared.change(|state| {
            let of_pod = state.sandboxes.values().filter(|found| found.pod() == pod && found.ready);
            let ids: Vec<_> = of_pod.map(|found| found.id.clone()).collect();
            assert!(!ids.is_empty(), "{pod} has no sandbox");
            ids.iter().for_each(|id| state.stop_sandbox(id));
        });
    }

    /// The runtime's process ends: the socket is closed, and calls that are under way break off.
    pub async fn crash(&mut self) {
        let Some(server) = self.server.take() else { return };
        let _ = std::fs::remove_file(&self.socket);
        let stop = tokio::task::spawn_blocking(move || server.shutdown_timeout(STOP_TIMEOUT));
        stop.await.expect("the server's thread ends");
    }

    /// The runtime comes back with what it still has.
    pub fn restart(&mut self, keep: Keep) {
        assert!(self.server.is_none(), "it runs");
        self.shared.change(|state| match keep {
            Keep::Everything => {}
            Keep::Dead => {
                let ids: Vec<_> = state.sandboxes.keys().cloned().collect();
                ids.iter().for_each(|id| state.stop_sandbox(id));
            }
            Keep::Nothing => {
                state.sandboxes.clear();
                state.containers.clear();
            }
        });
        self.listen();
    }

    /// What was asked of it so far, without the queries.
    pub fn calls(&self) -> Vec<Recorded> {
        self.shared.state().recorded.clone()
    }

    /// The same as lines, `StartContainer p/c`.
    pub fn lines(&self) -> Vec<String> {
        self.shared.state().recorded.iter().map(Recorded::line).collect()
    }

    /// How often a method was called about something.
    pub fn count(&self, call: Call, about: &str) -> usize {
        let state = self.shared.state();
        state.recorded.iter().filter(|found| found.call == call && found.about == about).count()
    }

    /// All sandboxes that were not removed.
    pub fn sandboxes(&self) -> Vec<Sandbox> {
        self.shared.state().sandboxes.values().cloned().collect()
    }

    /// All containers of a pod that were not removed, oldest first.
    pub fn containers(&self, pod: &str) -> Vec<Container> {
        let state = self.shared.state();
        let all = state.containers.values().filter(|found| state.pod_of(&found.sandbox) == pod);
        let mut all: Vec<_> = all.cloned().collect();
        all.sort_by_key(|found| found.created_at_ns);
        all
    }

    /// Those of them that run.
    pub fn running(&self, pod: &str) -> Vec<Container> {
        self.containers(pod).into_iter().filter(Container::is_running).collect()
    }

    /// Waits until something is so. Looks again whenever the runtime's state changes.
    pub async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        let mut changed = self.shared.changed.subscribe();
        while !is_so(self) {
            changed.changed().await.expect("this is one of its owners");
        }
    }
}

impl Drop for FakeCri {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown_background();
        }
    }
}
