//! A typed object behind a pointer: [`Kind`] without its type parameter.

use std::any::Any;

use coffer_api::Document;
use coffer_api::field::ErrorList;
use coffer_api::kinds::{Kind, Scale};
use coffer_api::subresource::SubresourceName;
use coffer_api::table::RowCondition;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;
use zeroize::Zeroizing;

/// A typed object of some served kind.
pub(crate) trait Object: Send + Sync {
    fn meta(&self) -> &ObjectMeta;
    fn meta_mut(&mut self) -> &mut ObjectMeta;
    fn set_defaults(&mut self);
    fn prepare_for_create(&mut self);
    fn prepare_for_update(&mut self, old: &dyn Object, sub: Option<SubresourceName>);
    fn validate(&self) -> ErrorList;
    fn validate_update(&self, old: &dyn Object, sub: Option<SubresourceName>) -> ErrorList;
    fn fields(&self) -> Vec<(&'static str, String)>;
    fn warnings(&self) -> Vec<String>;
    fn update_warnings(&self, old: &dyn Object) -> Vec<String>;
    fn pod_template(&self) -> Option<&PodTemplateSpec>;
    fn scale(&self) -> Option<Scale>;
    fn replicas_mut(&mut self) -> Option<&mut Option<i32>>;
    fn grace_seconds(&self, asked: Option<i64>) -> Option<i64>;
    fn holds_deletion(&self) -> bool;
    fn mark_deleted(&mut self);
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

impl dyn Object + '_ {
    /// The object as a kind of its own, for what concerns that kind alone.
    pub(crate) fn of_kind<K: 'static>(&self) -> Option<&K> {
        self.as_any().downcast_ref()
    }

    /// As [`Self::of_kind`], to change it.
    pub(crate) fn of_kind_mut<K: 'static>(&mut self) -> Option<&mut K> {
        self.as_any_mut().downcast_mut()
    }

    /// The pod that it is.
    pub(crate) fn pod(&self) -> Option<&Pod> {
        self.of_kind()
    }
}

impl<K: Kind> Object for K {
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

    fn prepare_for_update(&mut self, old: &dyn Object, sub: Option<SubresourceName>) {
        Kind::prepare_for_update(self, old.of_kind().expect(SAME_KIND), sub);
    }

    fn validate(&self) -> ErrorList {
        Kind::validate(self)
    }

    fn validate_update(&self, old: &dyn Object, sub: Option<SubresourceName>) -> ErrorList {
        Kind::validate_update(self, old.of_kind().expect(SAME_KIND), sub)
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        Kind::fields(self)
    }

    fn warnings(&self) -> Vec<String> {
        Kind::warnings(self)
    }

    fn update_warnings(&self, old: &dyn Object) -> Vec<String> {
        Kind::update_warnings(self, old.of_kind().expect(SAME_KIND))
    }

    fn pod_template(&self) -> Option<&PodTemplateSpec> {
        Kind::pod_template(self)
    }

    fn scale(&self) -> Option<Scale> {
        Kind::scale(self)
    }

    fn replicas_mut(&mut self) -> Option<&mut Option<i32>> {
        Kind::replicas_mut(self)
    }

    fn grace_seconds(&self, asked: Option<i64>) -> Option<i64> {
        Kind::grace_seconds(self, asked)
    }

    fn holds_deletion(&self) -> bool {
        Kind::holds_deletion(self)
    }

    fn mark_deleted(&mut self) {
        Kind::mark_deleted(self);
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        Kind::cells(self, now)
    }

    fn row_condition(&self) -> Option<RowCondition> {
        Kind::row_condition(self)
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
