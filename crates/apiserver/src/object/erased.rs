//! A typed object behind a pointer: [`Kind`] without its type parameter.

use std::any::Any;

use coffer_api::Document;
use coffer_api::field::ErrorList;
use coffer_api::kinds::Kind;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::printers::{Printed, RowCondition};

/// A typed object of some served kind.
pub(crate) trait Object: Send + Sync {
    fn meta(&self) -> &ObjectMeta;
    fn meta_mut(&mut self) -> &mut ObjectMeta;
    fn set_defaults(&mut self);
    fn prepare_for_create(&mut self);
    fn prepare_for_update(&mut self, old: &dyn Object, sub: Option<&str>);
    fn validate(&self) -> ErrorList;
    fn validate_update(&self, old: &dyn Object, sub: Option<&str>) -> ErrorList;
    fn fields(&self) -> Vec<(&'static str, String)>;
    fn warnings(&self) -> Vec<String>;
    fn cells(&self, now: jiff::Timestamp) -> Vec<Value>;
    fn row_condition(&self) -> Option<RowCondition>;
    /// The untyped form.
    fn document(&self) -> Document;
    /// JSON with apiVersion, kind and metadata first.
    fn encode(&self) -> Zeroizing<Vec<u8>>;
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

const SAME_KIND: &str = "one resource's objects have one type";

impl<K: Kind + Printed> Object for K {
    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.metadata_mut()
    }

    fn set_defaults(&mut self) {
        Kind::set_defaults(self);
    }

    fn prepare_for_create(&mut self) {
        Kind::prepare_for_create(self);
    }

    fn prepare_for_update(&mut self, old: &dyn Object, sub: Option<&str>) {
        Kind::prepare_for_update(self, old.as_any().downcast_ref().expect(SAME_KIND), sub);
    }

    fn validate(&self) -> ErrorList {
        Kind::validate(self)
    }

    fn validate_update(&self, old: &dyn Object, sub: Option<&str>) -> ErrorList {
        Kind::validate_update(self, old.as_any().downcast_ref().expect(SAME_KIND), sub)
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        Kind::fields(self)
    }

    fn warnings(&self) -> Vec<String> {
        Kind::warnings(self)
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        Printed::cells(self, now)
    }

    fn row_condition(&self) -> Option<RowCondition> {
        Printed::condition(self)
    }

    fn document(&self) -> Document {
        Document::encode(self).expect("API types have string keys only")
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        crate::encode::encode(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
