//! managedFields: who wrote which field. The rules are `coffer_api::apply`'s; here they meet
//! requests and objects.

use coffer_api::Document;
use coffer_api::apply;
use coffer_api::kinds::{KindInfo, Secret};
use coffer_api::schema;
use coffer_api::status::Failure;
use coffer_api::subresource::SubresourceName;

use crate::admission::grant;
use crate::call::Call;
use crate::object::Object;
use crate::options::WriteOptions;

/// A field manager, with the endpoint that it writes through.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    manager: String,
    subresource: Option<SubresourceName>,
    api_version: String,
    kind: &'static str,
}

/// The writer a call stands for. Its fields are tracked in the form that is stored.
pub(crate) fn writer(call: &Call, options: &WriteOptions) -> Writer {
    of(call, options, call.resource.stored_info())
}

/// The applier a call stands for: what it wants is said, and owned, in the form it speaks.
pub(crate) fn applier(call: &Call, options: &WriteOptions) -> Writer {
    of(call, options, call.resource.info)
}

fn of(call: &Call, options: &WriteOptions, info: &'static KindInfo) -> Writer {
    Writer {
        manager: call.manager(options.field_manager.as_deref()),
        subresource: call.sub(),
        api_version: info.api_version(),
        kind: info.kind,
    }
}

impl Writer {
    /// The writer as the rules of ownership want it, now.
    ///
    /// # Errors
    /// 404 for a kind without a schema: none that is stored.
    pub(crate) fn rules(&self) -> Result<apply::Writer<'_>, Failure> {
        Ok(apply::Writer {
            schema: schema::of(&self.api_version, self.kind).ok_or_else(Failure::no_such_path)?,
            api_version: &self.api_version,
            kind: self.kind,
            manager: &self.manager,
            subresource: self.subresource,
            now: crate::clock::now().0,
        })
    }

    /// Records this writer as the owner of what differs between `old` (`None`: nothing) and the
    /// object. What the server alone writes is as it was before that.
    ///
    /// # Errors
    /// As for an object that is too large to be written, where the record alone is.
    pub(crate) fn track(
        &self,
        object: &mut dyn Object,
        old: Option<&dyn Object>,
    ) -> Result<(), Failure> {
        grant::keep(object, old);
        let Ok(rules) = self.rules() else { return Ok(()) };
        let managed = {
            let new = outline(object, old);
            let old = old.map(|old| outline(old, None));
            apply::managed_fields(old.as_ref().map(Document::value), new.value(), &rules)
        };
        if managed.encoded_len() > apply::MANAGED_BYTES_MAX {
            return Err((&apply::ApplyError::TooLarge).into());
        }
        object.meta_mut().managed_fields = managed.entries();
        Ok(())
    }
}

/// The untyped form, as far as it says who wrote what: which fields there are, and which differ from
/// another object's. Of a secret that takes none of its payload.
fn outline(object: &dyn Object, than: Option<&dyn Object>) -> Document {
    match object.of_kind::<Secret>() {
        Some(own) => {
            let than = than.and_then(|than| than.of_kind::<Secret>());
            Document::encode(&own.outline(than)).expect("API types have string keys only")
        }
        None => object.document(),
    }
}
