//! The priority classes every cluster has, made at every start.

use coffer_api::kinds::priority_class::{SYSTEM_CLASSES, SystemClass};
use coffer_api::reason::Reason;
use coffer_api::status::Failure;
use k8s_openapi::api::scheduling::v1::PriorityClass;

use super::Core;
use crate::object::Object;

/// Makes the priority classes every cluster has. Only their descriptions can differ from what they are here.
///
/// # Errors
/// What the registry returns.
pub(crate) async fn create(core: &Core) -> Result<(), Failure> {
    // Concurrently, so that the store commits them together.
    let all = SYSTEM_CLASSES.iter().map(|class| ensure(core, class));
    futures::future::try_join_all(all).await.map(drop)
}

async fn ensure(core: &Core, system: &SystemClass) -> Result<(), Failure> {
    let resource = core.resources().of::<PriorityClass>();
    let mut class = PriorityClass {
        value: system.value,
        description: Some(system.description.to_owned()),
        ..PriorityClass::default()
    };
    class.metadata.name = Some(system.name.to_owned());
    let mut object: Box<dyn Object> = Box::new(class);
    object.set_defaults();
    match core.create_own(resource, object).await {
        Err(failure) if failure.reason == Reason::AlreadyExists => Ok(()),
        done => done,
    }
}
