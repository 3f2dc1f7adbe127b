//! What one namespace uses of its quotas, kept and not counted: how many objects of each kind there
//! are, what its pods ask for, and what is promised to objects that are being created. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use coffer_api::quota::{Amounts, PodUsage, Quota, QuotaExceeded, Totals, check_positive, used_of};
use coffer_store::Revision;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

/// A kind, by its place in the ledger's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct KindId(pub(super) usize);

/// What a new object asks of the quotas.
pub(super) struct Request<'a> {
    pub(super) kind: KindId,
    /// `secrets.`, `deployments.apps`.
    pub(super) resource: &'a str,
    pub(super) pod: Option<(&'a Pod, Arc<PodUsage>)>,
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// There is room, and it is kept for the object. The number is the reservation's.
    Reserved(u64),
    Refused(QuotaExceeded),
    /// There is room only if objects that are being created are not: ask again once the write of this
    /// revision is applied, or, without one, once a reservation has changed.
    Later(Option<Revision>),
    /// The pods of the namespace are to be read first.
    PodsUnread,
    /// The quota of this name cannot be read.
    Unreadable(String),
}

/// Room that is kept for an object.
struct Reservation {
    id: u64,
    kind: KindId,
    pod: Option<Arc<PodUsage>>,
    /// The revision of the object, once it is written. Until the cache has applied it the object is
    /// in no count.
    written: Option<Revision>,
}

/// A quota, and what its pods use, once that was asked for.
struct Tracked {
    quota: Option<Quota>,
    totals: Option<Totals>,
}

/// The pods of a namespace as quotas look at them.
#[derive(Default)]
struct Pods {
    /// Whether all that were there when reading began are read.
    complete: bool,
    /// By key, with the revision of what was read. `None`: deleted since reading began.
    read: HashMap<Arc<str>, (Revision, Option<Arc<PodUsage>>)>,
    /// Deleted pods that are still there, by when they no longer count as live.
    ending: BTreeSet<(Timestamp, Arc<str>)>,
    /// Pods of one template are alike, and share what is kept of them.
    latest: Option<Arc<PodUsage>>,
}

/// One namespace.
#[derive(Default)]
pub(super) struct Namespace {
    counts: HashMap<KindId, usize>,
    quotas: BTreeMap<String, Tracked>,
    pods: Option<Pods>,
    reservations: Vec<Reservation>,
    next_reservation: u64,
}

impl Namespace {
    /// Counts one object more of a kind, or one less.
    pub(super) fn count(&mut self, kind: KindId, more: bool) {
        let count = self.counts.entry(kind).or_default();
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            self.counts.remove(&kind);
        }
    }

    /// Sets how many objects of a kind there are.
    pub(super) fn set_count(&mut self, kind: KindId, count: usize) {
        match count {
            0 => drop(self.counts.remove(&kind)),
            _ => drop(self.counts.insert(kind, count)),
        }
    }

    /// Takes a quota as it is now; `None` if it cannot be read.
    pub(super) fn set_quota(&mut self, name: &str, quota: Option<Quota>) {
        let spec = |quota: &Option<Quota>| quota.as_ref().map(|quota| quota.spec().clone());
        let before = self.quotas.remove(name);
        // Mostly it is its status that has changed.
        let same = before.filter(|before| spec(&before.quota) == spec(&quota));
        let totals = same.and_then(|before| before.totals);
        self.quotas.insert(name.to_owned(), Tracked { quota, totals });
    }

    /// Forgets a quota.
    pub(super) fn remove_quota(&mut self, name: &str) {
        self.quotas.remove(name);
        if self.quotas.is_empty() {
            self.pods = None;
        }
    }

    pub(super) fn remove_quotas(&mut self) {
        self.quotas.clear();
        self.pods = None;
    }

    pub(super) fn has_quotas(&self) -> bool {
        !self.quotas.is_empty()
    }

    /// Whether there is nothing to know of it. Reservations do not matter without quotas: those of
    /// objects that are written are counted by the time that a quota is.
    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.quotas.is_empty()
    }

    /// Whether what pods ask for is kept.
    pub(super) fn tracks_pods(&self) -> bool {
        self.pods.is_some()
    }

    /// Begins to keep what pods request: from now on each change of a pod must be reported.
    pub(super) fn begin_pods(&mut self) {
        self.pods.get_or_insert_default();
    }

    /// Whether the pod as it was at a revision, or a newer one, is known, or need not be.
    pub(super) fn knows_pod(&self, key: &str, revision: Revision) -> bool {
        let Some(pods) = &self.pods else { return true };
        pods.read.get(key).is_some_and(|(read, _)| *read >= revision)
    }

    /// All pods that were there when reading began are read; whether it is so: what was read is
    /// forgotten where the cache was loaded again in between.
    pub(super) fn complete_pods(&mut self) -> bool {
        let Some(pods) = &mut self.pods else { return false };
        pods.complete = true;
        pods.read.retain(|_, (_, pod)| pod.is_some());
        self.quotas.values_mut().for_each(|tracked| tracked.totals = None);
        true
    }

    pub(super) fn pods_are_complete(&self) -> bool {
        self.pods.as_ref().is_some_and(|pods| pods.complete)
    }

    /// Forgets what pods ask for; it is read again when it matters.
    pub(super) fn forget_pods(&mut self) {
        self.pods = None;
        self.quotas.values_mut().for_each(|tracked| tracked.totals = None);
    }

    /// Takes a pod as it is at a revision, `None` if it is deleted then.
    pub(super) fn set_pod(&mut self, key: &Arc<str>, revision: Revision, pod: Option<PodUsage>) {
        if self.knows_pod(key, revision) {
            return;
        }
        let Some(pods) = &mut self.pods else { return };
        let new = pod.map(|pod| pods.shared(pod));
        self.replace_pod(key, revision, new);
    }

    /// Deleted pods whose grace period is over no longer count as live, though they still exist.
    fn end_overdue_pods(&mut self, now: Timestamp) {
        while let Some(pods) = &self.pods
            && let Some((until, key)) = pods.ending.first()
            && *until < now
        {
            let key = key.clone();
            let Some((revision, Some(pod))) = pods.read.get(&key) else { return };
            let (revision, ended) = (*revision, Arc::new(pod.ended()));
            self.replace_pod(&key, revision, Some(ended));
        }
    }

    fn replace_pod(&mut self, key: &Arc<str>, revision: Revision, new: Option<Arc<PodUsage>>) {
        let Some(pods) = &mut self.pods else { return };
        let old = pods.read.get(key).and_then(|(_, pod)| pod.clone());
        let until = |pod: &Option<Arc<PodUsage>>| pod.as_ref().and_then(|pod| pod.counts_until());
        if let Some(until) = until(&old) {
            pods.ending.remove(&(until, key.clone()));
        }
        if let Some(until) = until(&new) {
            pods.ending.insert((until, key.clone()));
        }
        if new.is_none() && pods.complete {
            pods.read.remove(key);
        } else {
            pods.read.insert(key.clone(), (revision, new.clone()));
        }
        if old == new {
            return;
        }
        for tracked in self.quotas.values_mut() {
            let Tracked { quota: Some(quota), totals: Some(totals) } = tracked else { continue };
            let counted = |pod: &&Arc<PodUsage>| pod.is_in_scope(quota.spec());
            if let Some(old) = old.as_ref().filter(counted) {
                totals.sub(old);
            }
            if let Some(new) = new.as_ref().filter(counted) {
                totals.add(new);
            }
        }
    }

    /// Checks whether all quotas have room for an object, and reserves it. `applied` is a revision up to
    /// which all writes are in the counts.
    pub(super) fn reserve(
        &mut self,
        request: &Request<'_>,
        applied: Revision,
        now: Timestamp,
    ) -> Outcome {
        self.end_overdue_pods(now);
        self.reservations.retain(|kept| kept.written.is_none_or(|written| written > applied));
        if let Some((name, _)) = self.quotas.iter().find(|(_, tracked)| tracked.quota.is_none()) {
            return Outcome::Unreadable(name.clone());
        }
        if let Some((pod, usage)) = &request.pod {
            let quotas = || self.quotas.values().filter_map(|tracked| tracked.quota.as_ref());
            for quota in quotas() {
                if let Err(excess) = quota.check_specified(pod) {
                    return Outcome::Refused(excess);
                }
            }
            if quotas().any(|quota| quota.is_about(usage))
                && let Err(excess) = check_positive(pod)
            {
                return Outcome::Refused(excess);
            }
        }
        let usage = request.pod.as_ref().map(|(_, usage)| &**usage);
        let mut fits = true;
        for tracked in self.quotas.values_mut() {
            let Some(quota) = &tracked.quota else { continue };
            let added = quota.added(request.resource, usage);
            if added.is_empty() {
                continue;
            }
            let none = Totals::default();
            let totals = match (usage, &self.pods) {
                (None, _) => &none,
                (Some(_), Some(pods)) if pods.complete => {
                    tracked.totals.get_or_insert_with(|| pods.totals(quota))
                }
                _ => return Outcome::PodsUnread,
            };
            let count = self.counts.get(&request.kind).copied().unwrap_or_default();
            let mut used = used_of(added.keys(), totals, |_| Some(count));
            if let Err(excess) = quota.check(&used, &added) {
                return Outcome::Refused(excess);
            }
            for kept in self.reservations.iter().filter(|kept| kept.kind == request.kind) {
                add(&mut used, &quota.added(request.resource, kept.pod.as_deref()));
            }
            fits &= quota.check(&used, &added).is_ok();
        }
        if !fits {
            return Outcome::Later(self.reservations.iter().filter_map(|kept| kept.written).max());
        }
        let id = self.next_reservation;
        self.next_reservation += 1;
        let pod = request.pod.as_ref().map(|(_, usage)| usage.clone());
        self.reservations.push(Reservation { id, kind: request.kind, pod, written: None });
        Outcome::Reserved(id)
    }

    /// The object of a reservation is written.
    pub(super) fn written(&mut self, id: u64, revision: Revision) {
        if let Some(kept) = self.reservations.iter_mut().find(|kept| kept.id == id) {
            kept.written = Some(revision);
        }
    }

    /// The object of a reservation will not be.
    pub(super) fn release(&mut self, id: u64) {
        self.reservations.retain(|kept| kept.id != id);
    }

    /// What the quotas' pods use, by quota, and how many objects there are: for tests that compare it
    /// with a recount.
    #[cfg(test)]
    pub(super) fn state(&mut self) -> (BTreeMap<String, Totals>, HashMap<KindId, usize>) {
        let pods = self.pods.as_ref().expect("pods are kept");
        let totals = self.quotas.iter_mut().filter_map(|(name, tracked)| {
            let quota = tracked.quota.as_ref()?;
            let totals = tracked.totals.get_or_insert_with(|| pods.totals(quota));
            Some((name.clone(), totals.clone()))
        });
        (totals.collect(), self.counts.clone())
    }
}

impl Pods {
    fn shared(&mut self, pod: PodUsage) -> Arc<PodUsage> {
        match &self.latest {
            Some(latest) if **latest == pod => latest.clone(),
            _ => self.latest.insert(Arc::new(pod)).clone(),
        }
    }

    fn totals(&self, quota: &Quota) -> Totals {
        let pods = self.read.values().filter_map(|(_, pod)| pod.as_deref());
        Totals::of(pods.filter(|pod| pod.is_in_scope(quota.spec())))
    }
}

fn add(used: &mut Amounts, more: &Amounts) {
    for (name, amount) in used {
        if let Some(more) = more.get(name) {
            amount.add(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).expect("an object")
    }

    /// Upstream's rule for pods of a lost node: after the time to end, and as long again.
    #[test]
    fn a_deleted_pod_that_does_not_end_counts_until_its_time_is_over_twice() {
        let mut namespace = Namespace::default();
        let quota = json!({ "metadata": { "name": "q" },
            "spec": { "hard": { "pods": "1", "count/pods": "2" } } });
        namespace.set_quota("q", Some(Quota::of(read(quota))));
        namespace.begin_pods();
        let spec = json!({ "containers": [{ "name": "c" }] });
        let stuck: Pod = read(json!({ "spec": spec, "metadata": {
            "deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30 } }));
        let key: Arc<str> = "/registry/pods/n/stuck".into();
        namespace.set_pod(&key, 7, Some(PodUsage::of(&stuck)));
        assert!(namespace.complete_pods());
        let pod: Pod = read(json!({ "spec": spec }));
        let mut reserve = |now: &str| {
            let pod = Some((&pod, Arc::new(PodUsage::of(&pod))));
            let request = Request { kind: KindId(0), resource: "pods.", pod };
            let outcome = namespace.reserve(&request, 7, now.parse().expect("a time"));
            if let Outcome::Reserved(id) = outcome {
                namespace.release(id);
            }
            outcome
        };
        assert!(matches!(reserve("2026-01-01T00:00:59Z"), Outcome::Refused(_)));
        assert!(matches!(reserve("2026-01-01T00:01:01Z"), Outcome::Reserved(_)));
        let after = "2026-01-01T00:02:00Z";
        assert!(matches!(reserve(after), Outcome::Reserved(_)), "its object still counts once");
        namespace.set_pod(&key, 8, None);
        let shown = namespace.state().0["q"].clone();
        assert_eq!(shown, Totals::default());
    }

    /// Before it is validated: it must not hold room open that others then have.
    #[test]
    fn a_pod_that_needs_less_than_nothing_is_refused_and_makes_room_for_no_other() {
        let mut namespace = Namespace::default();
        let quota =
            json!({ "metadata": { "name": "q" }, "spec": { "hard": { "requests.cpu": "10" } } });
        namespace.set_quota("q", Some(Quota::of(read(quota))));
        namespace.begin_pods();
        assert!(namespace.complete_pods());
        let mut reserve = |cpu: &str| {
            let resources = json!({ "requests": { "cpu": cpu } });
            let pod: Pod = read(json!({ "spec": {
                "containers": [{ "name": "c", "resources": resources }] } }));
            let pod = Some((&pod, Arc::new(PodUsage::of(&pod))));
            let request = Request { kind: KindId(0), resource: "pods.", pod };
            namespace.reserve(&request, 7, Timestamp::UNIX_EPOCH)
        };
        let Outcome::Refused(excess) = reserve("-1000") else { panic!("it is not refused") };
        let why = "quota usage is negative for resource(s): cpu,requests.cpu";
        assert_eq!(excess.to_string(), why);
        assert!(matches!(reserve("6"), Outcome::Reserved(_)));
        assert!(matches!(reserve("6"), Outcome::Later(None)));
    }
}
