//! The paths of the page.

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;

use super::site::Site;
use super::{act, home, left, plans};

pub(super) fn pages(site: Site) -> Router {
    Router::new()
        .route("/", get(home::show))
        .route("/plans", get(plans::list))
        .route("/plans/{plan}", get(plans::show))
        .route("/left", get(left::list))
        .route("/left/{receipt}", get(left::show))
        .route("/act", get(act::ask).post(act::carry_out))
        .route("/live", get(stream))
        .with_state(site)
}

async fn stream(State(site): State<Site>) -> Response {
    site.stream()
}
