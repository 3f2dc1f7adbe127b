//! The fault suite: API server, kubelets and containerd are killed with SIGKILL at random moments
//! while pods start and end and their secrets are updated. Afterwards every pod is as its spec says,
//! every mounted file is of the version that the pod reports, and nothing is left over anywhere.
//!
//! ```text
//! COFFER_FAULTS_PODS=200    how many pods are started; 30 if not given
//! COFFER_FAULTS_SEED=7      what the random moments are drawn from; printed at every run
//! ```
//!
//! The whole of it: `COFFER_FAULTS_PODS=200 cargo test -p coffer --test faults -- --nocapture`.

mod cluster;
mod load;
mod verdict;

use std::str::FromStr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio_util::sync::CancellationToken;

use cluster::{Cluster, Victim};
use load::Load;

const PODS_DEFAULT: usize = 30;
/// How long a process runs before it is killed, and how long it is down then.
const LIFE_MS: std::ops::Range<u64> = 200..2500;
const DEATH_MS: std::ops::Range<u64> = 0..800;

fn from_environment<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

#[tokio::test]
async fn killed_at_any_moment_the_parts_come_back_and_no_pod_or_secret_suffers() {
    let pods = from_environment("COFFER_FAULTS_PODS").unwrap_or(PODS_DEFAULT);
    let seed = from_environment("COFFER_FAULTS_SEED").unwrap_or_else(rand::random);
    eprintln!("COFFER_FAULTS_SEED={seed} COFFER_FAULTS_PODS={pods}");
    let mut moments = StdRng::seed_from_u64(seed);
    let began = std::time::SystemTime::now();
    let mut cluster = Cluster::start().await;
    let mut load = Load::new(cluster.client().await, StdRng::seed_from_u64(moments.random()));

    let over = CancellationToken::new();
    let work = async {
        load.run(pods).await;
        over.cancel();
    };
    let ((), kills) = tokio::join!(work, kill_until(&over, &mut cluster, &mut moments));
    eprintln!("killed: {kills:?}");

    verdict::settled(&cluster, &mut load).await;
    verdict::nothing_leaks(&cluster, load.canary(), began);
    load.delete_all().await;
    verdict::nothing_is_left(&cluster, &mut load).await;
    verdict::nothing_leaks(&cluster, load.canary(), began);
}

/// Kills one part after the other until the load is done, each at least once.
async fn kill_until(
    over: &CancellationToken,
    cluster: &mut Cluster,
    moments: &mut StdRng,
) -> Vec<(Victim, usize)> {
    let mut kills = Victim::ALL.map(|victim| (victim, 0));
    while !over.is_cancelled() || kills.iter().any(|(_, times)| *times == 0) {
        tokio::time::sleep(Duration::from_millis(moments.random_range(LIFE_MS))).await;
        // Once the load is done, only who was spared so far.
        let spared = kills.iter().position(|(_, times)| *times == 0);
        let chosen = match spared {
            Some(spared) if over.is_cancelled() => spared,
            _ => moments.random_range(0..kills.len()),
        };
        let (victim, times) = &mut kills[chosen];
        *times += 1;
        let downtime = Duration::from_millis(moments.random_range(DEATH_MS));
        cluster.kill(*victim, downtime).await;
    }
    kills.into()
}
