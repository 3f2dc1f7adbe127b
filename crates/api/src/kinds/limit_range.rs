//! LimitRange: the least and the most that a pod or a container of a namespace may ask for, and what a
//! container gets that says nothing.

use std::collections::{BTreeMap, BTreeSet};

pub use k8s_openapi::api::core::v1::LimitRange;
use k8s_openapi::api::core::v1::{LimitRangeItem, PodTemplateSpec};

use super::info::KindInfo;
use super::kind::Kind;
use super::meta;
use super::pod::resources::{self, Amounts};
use super::roles::Grant;
use crate::field::{Error, ErrorList, Path};
use crate::names;
use crate::protobuf::message::Type::{Nested, Quantity as Amount, Text};
use crate::protobuf::message::{Message, given, list, map};
use crate::protobuf::tables::meta::OBJECT_META;
use crate::quantity::Quantity;
use crate::subresource::SubresourceName;

/// Limits of each container.
pub const CONTAINER: &str = "Container";
/// Limits of a pod's containers together.
pub const POD: &str = "Pod";
/// Limits of each claim's storage.
const CLAIM: &str = "PersistentVolumeClaim";

static MESSAGE: Message =
    Message(&[given(1, "metadata", Nested(&OBJECT_META)), given(2, "spec", Nested(&SPEC))]);

static SPEC: Message = Message(&[list(1, "limits", Nested(&ITEM))]);

static ITEM: Message = Message(&[
    given(1, "type", Text),
    map(2, "max", Amount),
    map(3, "min", Amount),
    map(4, "default", Amount),
    map(5, "defaultRequest", Amount),
    map(6, "maxLimitRequestRatio", Amount),
]);

static INFO: KindInfo = KindInfo {
    short_names: &["limits"],
    create_on_update: true,
    roles: &[Grant::view(&[""])],
    ..KindInfo::of::<LimitRange>("limitrange", &MESSAGE)
};

impl Kind for LimitRange {
    const INFO: &'static KindInfo = &INFO;

    fn pod_template(&self) -> Option<&PodTemplateSpec> {
        None
    }

    fn set_defaults(&mut self) {
        self.spec.iter_mut().flat_map(|spec| &mut spec.limits).for_each(set_item_defaults);
    }

    fn validate(&self) -> ErrorList {
        let mut errors = meta::validate(&self.metadata, &INFO);
        errors.extend(validate_spec(self));
        errors
    }

    fn validate_update(&self, old: &Self, _sub: Option<SubresourceName>) -> ErrorList {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(validate_spec(self));
        errors
    }
}

/// A container's default limit is the maximum where none is given; its default request is the default
/// limit, or else the minimum.
fn set_item_defaults(item: &mut LimitRangeItem) {
    let LimitRangeItem { default, default_request, max, max_limit_request_ratio, min, type_ } =
        item;
    let all = [&mut *default, &mut *default_request, &mut *max, max_limit_request_ratio, &mut *min];
    all.into_iter().flatten().for_each(resources::canonicalize);
    if type_ != CONTAINER {
        return;
    }
    fill_in(default, max);
    fill_in(default_request, default);
    fill_in(default_request, min);
}

fn fill_in(amounts: &mut Option<Amounts>, from: &Option<Amounts>) {
    for (name, amount) in from.iter().flatten() {
        let amounts = amounts.get_or_insert_default();
        amounts.entry(name.clone()).or_insert_with(|| amount.clone());
    }
}

fn validate_spec(range: &LimitRange) -> ErrorList {
    let path = Path::new("spec").child("limits");
    let mut errors = ErrorList::new();
    let mut types = BTreeSet::new();
    for (at, item) in range.spec.iter().flat_map(|spec| &spec.limits).enumerate() {
        let path = path.index(at);
        let type_path = path.child("type");
        errors.extend(validate_type(&item.type_, &type_path));
        if !types.insert(&item.type_) {
            errors.push(Error::duplicate(&type_path, &item.type_));
        }
        errors.extend(validate_item(item, &path));
    }
    errors
}

fn validate_type(name: &str, path: &Path) -> ErrorList {
    let errors = meta::invalid_each(path, name, names::qualified_name(name));
    if errors.is_empty() && !name.contains('/') && ![CONTAINER, POD, CLAIM].contains(&name) {
        let detail = "must be a standard limit type or fully qualified";
        return vec![Error::invalid(path, name, detail)];
    }
    errors
}

/// The amounts of one item.
type Read<'a> = BTreeMap<&'a str, Quantity>;

fn validate_item(item: &LimitRangeItem, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut read = |field: &str, amounts| {
        let (read, found) = read_amounts(amounts, &item.type_, &path.child(field));
        errors.extend(found);
        read
    };
    let (max, min) = (read("max", &item.max), read("min", &item.min));
    let of_pod = item.type_ == POD;
    let defaults = (&item.default, &item.default_request);
    let (default, request) = if of_pod { (&None, &None) } else { defaults };
    let (default, request) = (read("default", default), read("defaultRequest", request));
    let ratio = read("maxLimitRequestRatio", &item.max_limit_request_ratio);
    if of_pod {
        for (field, amounts) in
            [("default", &item.default), ("defaultRequest", &item.default_request)]
        {
            if amounts.as_ref().is_some_and(|amounts| !amounts.is_empty()) {
                let detail = "may not be specified when `type` is 'Pod'";
                errors.push(Error::forbidden(&path.child(field), detail));
            }
        }
    }
    if item.type_ == CLAIM && !min.contains_key("storage") && !max.contains_key("storage") {
        let detail =
            "either minimum or maximum storage value is required, but neither was provided";
        errors.push(Error::required(&path.child("limits"), detail));
    }
    let all = [&max, &min, &default, &request, &ratio];
    let names: BTreeSet<&str> = all.into_iter().flat_map(|read| read.keys().copied()).collect();
    for name in names {
        let [max, min, default, request, ratio] = all.map(|read| read.get(name));
        let of_name = OfName { name, max, min, default, request, ratio };
        errors.extend(of_name.validate(path));
    }
    errors
}

/// The amounts that can be read, and what is wrong with names and amounts.
fn read_amounts<'a>(
    amounts: &'a Option<Amounts>,
    type_: &str,
    path: &Path,
) -> (Read<'a>, ErrorList) {
    let mut errors = ErrorList::new();
    let mut read = Read::new();
    for (name, text) in amounts.iter().flatten() {
        let path = path.key(name);
        errors.extend(match type_ {
            CONTAINER | POD => resources::validate_container_name(name, &path),
            _ => resources::validate_name(name, &path),
        });
        match Quantity::of(text) {
            Ok(quantity) => {
                read.insert(name.as_str(), quantity);
            }
            Err(error) => errors.push(Error::invalid(&path, &text.0, error.to_string())),
        }
    }
    (read, errors)
}

/// What an item says of one resource.
struct OfName<'a> {
    name: &'a str,
    max: Option<&'a Quantity>,
    min: Option<&'a Quantity>,
    default: Option<&'a Quantity>,
    request: Option<&'a Quantity>,
    ratio: Option<&'a Quantity>,
}

impl OfName<'_> {
    /// Which amounts contradict each other.
    fn validate(&self, path: &Path) -> ErrorList {
        let invalid = |field: &str, shown: &Quantity, detail: String| {
            Error::invalid(&path.child(field).key(self.name), &shown.to_string(), detail)
        };
        let mut errors = ErrorList::new();
        // Field and amount that are reported, then what must not be greater than what.
        let (max, min, default, request) = (self.max, self.min, self.default, self.request);
        let pairs = [
            ("min", min, ("min", min), ("max", max)),
            ("defaultRequest", request, ("min", min), ("default request", request)),
            ("defaultRequest", request, ("default request", request), ("max", max)),
            ("defaultRequest", request, ("default request", request), ("default limit", default)),
            ("default", min, ("min", min), ("default", default)),
            ("default", max, ("default", default), ("max", max)),
        ];
        for (field, shown, (low_name, low), (high_name, high)) in pairs {
            if let (Some(shown), Some(low), Some(high)) = (shown, low, high)
                && low > high
            {
                let detail =
                    format!("{low_name} value {low} is greater than {high_name} value {high}");
                errors.push(invalid(field, shown, detail));
            }
        }
        if let Some(ratio) = self.ratio {
            let field = "maxLimitRequestRatio";
            if *ratio < Quantity::whole(1) {
                errors.push(invalid(field, ratio, format!("ratio {ratio} is less than 1")));
            }
            if let (Some(min), Some(max)) = (min, max)
                && let Some(widest) = exceeded(ratio, min, max)
            {
                let detail = format!("ratio {ratio} is greater than max/min = {widest:.6}");
                errors.push(invalid(field, ratio, detail));
            }
        }
        if let (Some(default), Some(request)) = (default, request)
            && !resources::overcommits(self.name)
            && default != request
        {
            let name = self.name;
            let detail = format!(
                "default value {default} must equal to defaultRequest value {request} in {name}"
            );
            errors.push(invalid("defaultRequest", request, detail));
        }
        errors
    }
}

/// The ratio of maximum and minimum, where the ratio that is allowed is greater: it would allow nothing more.
fn exceeded(ratio: &Quantity, min: &Quantity, max: &Quantity) -> Option<f64> {
    let fine = [ratio, min, max].iter().all(|it| it.units() < i64::MAX / 1000);
    let value = |it: &Quantity| if fine { it.milli() } else { it.units() } as f64;
    let widest = value(max) / value(min);
    let ratio = if fine { value(ratio) / 1000.0 } else { value(ratio) };
    (ratio > widest).then_some(widest)
}

#[cfg(test)]
mod tests;
