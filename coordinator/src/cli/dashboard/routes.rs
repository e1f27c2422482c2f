//! The paths of the page.

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;

use super::site::Site;
use super::{act, events, institutions, models, overview, run};

pub(super) fn pages(site: Site) -> Router {
    Router::new()
        .route("/", get(overview::show))
        .route("/runs/{run}", get(run::show))
        .route("/institutions", get(institutions::show))
        .route("/models", get(models::list))
        .route("/models/{version}", get(models::show))
        .route("/events", get(events::show))
        .route("/act", get(act::ask).post(act::carry_out))
        .route("/live", get(stream))
        .with_state(site)
}

async fn stream(State(site): State<Site>) -> Response {
    site.stream()
}
