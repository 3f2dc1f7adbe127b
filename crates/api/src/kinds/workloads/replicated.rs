//! What ReplicaSet and ReplicationController have in common: the same fields in types that Kubernetes
//! keeps apart.

/// The methods of `Kind` that are the same for both; `$Status` is the type of the kind's status.
macro_rules! replicated {
    ($Status:ident) => {
        fn prepare_for_create(&mut self) {
            self.status = Some($Status::default());
            meta::first_generation(&mut self.metadata);
        }

        fn prepare_for_update(&mut self, old: &Self, sub: Option<SubresourceName>) {
            let (spec, status) = ((&mut self.spec, &old.spec), (&mut self.status, &old.status));
            let meta = (&mut self.metadata, &old.metadata);
            meta::separate_status_and_generation(sub, meta, spec, status);
        }

        fn validate(&self) -> ErrorList {
            let mut errors = meta::validate(&self.metadata, &INFO);
            errors.extend(validate_spec(self));
            errors
        }

        fn fields(&self) -> Vec<(&'static str, String)> {
            let replicas = self.status.as_ref().map(|status| status.replicas).unwrap_or_default();
            vec![("status.replicas", replicas.to_string())]
        }

        fn warnings(&self) -> Vec<String> {
            let template = self.spec.as_ref().and_then(|spec| spec.template.as_ref());
            pod::template_warnings(template, &Path::new("spec").child("template"))
        }

        fn pod_template(&self) -> Option<&PodTemplateSpec> {
            let template = self.spec.as_ref().and_then(|spec| spec.template.as_ref());
            Some(template.unwrap_or(&EMPTY_TEMPLATE))
        }

        fn replicas_mut(&mut self) -> Option<&mut Option<i32>> {
            Some(&mut self.spec.get_or_insert_default().replicas)
        }

        fn scale(&self) -> Option<Scale> {
            let (spec, status) = (self.spec.as_ref(), self.status.as_ref());
            Some(Scale {
                desired: spec.and_then(|spec| spec.replicas),
                current: status.map_or(0, |status| status.replicas),
                selector: selector_of(self),
            })
        }

        fn cells(&self, now: Timestamp) -> Vec<Value> {
            let (spec, status) = (self.spec.as_ref(), self.status.as_ref());
            let [containers, images] =
                template::container_cells(self.pod_template().unwrap_or(&EMPTY_TEMPLATE));
            vec![
                table::name(self),
                spec.and_then(|spec| spec.replicas).unwrap_or_default().into(),
                status.map_or(0, |status| status.replicas).into(),
                status.and_then(|status| status.ready_replicas).unwrap_or_default().into(),
                table::age(self, now),
                containers,
                images,
                or_none(&selector_shown(self)).into(),
            ]
        }
    };
}

/// What a status says of its pods, as [`super::Counts`].
macro_rules! counts {
    ($status:expr) => {{
        let status = $status;
        Counts {
            replicas: status.replicas,
            parts: vec![("fullyLabeledReplicas", status.fully_labeled_replicas)],
            ready: status.ready_replicas,
            available: status.available_replicas,
            observed_generation: status.observed_generation,
        }
    }};
}

pub(super) use {counts, replicated};
