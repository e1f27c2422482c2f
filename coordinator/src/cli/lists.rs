//! Lists that the coordinator gives in pages.

use fedner_proto::v1;
use fedner_proto::v1::monitoring_client::MonitoringClient;
use tonic::transport::Channel;

use super::failed::Failed;

type Monitoring = MonitoringClient<Channel>;

pub(super) async fn runs(mut monitoring: Monitoring) -> Result<Vec<v1::Run>, Failed> {
    let (mut all, mut request) = (Vec::new(), v1::ListRunsRequest::default());
    loop {
        let page = monitoring.list_runs(request.clone()).await?.into_inner();
        all.extend(page.runs);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}

pub(super) async fn institutions(
    mut monitoring: Monitoring,
) -> Result<Vec<v1::Institution>, Failed> {
    let (mut all, mut request) = (Vec::new(), v1::ListInstitutionsRequest::default());
    loop {
        let answer = monitoring.list_institutions(request.clone()).await?;
        let page = answer.into_inner();
        all.extend(page.institutions);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}

pub(super) async fn models(mut monitoring: Monitoring) -> Result<Vec<v1::ModelVersion>, Failed> {
    let (mut all, mut request) = (Vec::new(), v1::ListModelsRequest::default());
    loop {
        let page = monitoring.list_models(request.clone()).await?.into_inner();
        all.extend(page.models);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}

/// The version and its ancestors, newest first.
pub(super) async fn lineage(
    mut monitoring: Monitoring,
    version: String,
) -> Result<Vec<v1::ModelVersion>, Failed> {
    let mut all = Vec::new();
    let mut request = v1::GetModelRequest {
        version,
        ..v1::GetModelRequest::default()
    };
    loop {
        let page = monitoring.get_lineage(request.clone()).await?.into_inner();
        all.extend(page.models);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}
