//! What operators and viewers may look at.

use std::pin::Pin;

use fedner_proto::{convert, v1};
use fedner_shared::id::{InstitutionId, RunId};
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::view::VersionView;
use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::Services;
use super::gate::{onlooker, status};

/// Events read from the store at a time.
const PAGE: usize = 500;

#[derive(Debug)]
pub(super) struct Monitoring(pub(super) Services);

type Events = Pin<Box<dyn Stream<Item = Result<v1::Event, Status>> + Send>>;

#[tonic::async_trait]
impl v1::monitoring_server::Monitoring for Monitoring {
    async fn list_runs(
        &self,
        request: Request<v1::ListRunsRequest>,
    ) -> Result<Response<v1::ListRunsResponse>, Status> {
        onlooker(&request)?;
        let views = self
            .0
            .engine
            .call(|engine| Ok(engine.run_views()))
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ListRunsResponse {
            runs: views.iter().map(convert::run_to_wire).collect(),
        }))
    }

    async fn get_run(
        &self,
        request: Request<v1::GetRunRequest>,
    ) -> Result<Response<v1::Run>, Status> {
        onlooker(&request)?;
        let name = request.into_inner().run;
        let view = self
            .0
            .engine
            .call(move |engine| {
                let run = engine.find_run(&name)?;
                engine.run_view(&run)
            })
            .await
            .map_err(status)?;
        Ok(Response::new(convert::run_to_wire(&view)))
    }

    async fn list_institutions(
        &self,
        request: Request<v1::ListInstitutionsRequest>,
    ) -> Result<Response<v1::ListInstitutionsResponse>, Status> {
        onlooker(&request)?;
        let views = self
            .0
            .engine
            .call(crate::engine::Engine::institution_views)
            .await
            .map_err(status)?;
        let institutions = views.iter().map(convert::institution_to_wire).collect();
        Ok(Response::new(v1::ListInstitutionsResponse { institutions }))
    }

    async fn get_institution(
        &self,
        request: Request<v1::GetInstitutionRequest>,
    ) -> Result<Response<v1::Institution>, Status> {
        onlooker(&request)?;
        let name: InstitutionId =
            convert::parsed("institution", &request.into_inner().institution).map_err(status)?;
        let views = self
            .0
            .engine
            .call(crate::engine::Engine::institution_views)
            .await
            .map_err(status)?;
        let view = views
            .iter()
            .find(|view| view.institution == name)
            .ok_or_else(|| {
                status(Refusal::new(
                    Code::InstitutionUnknown,
                    format!("{name} is not enrolled"),
                ))
            })?;
        Ok(Response::new(convert::institution_to_wire(view)))
    }

    async fn list_models(
        &self,
        request: Request<v1::ListModelsRequest>,
    ) -> Result<Response<v1::ListModelsResponse>, Status> {
        onlooker(&request)?;
        let views = self
            .0
            .engine
            .call(crate::engine::Engine::model_views)
            .await
            .map_err(status)?;
        Ok(Response::new(models(&views)))
    }

    async fn get_model(
        &self,
        request: Request<v1::GetModelRequest>,
    ) -> Result<Response<v1::ModelVersion>, Status> {
        onlooker(&request)?;
        let name = request.into_inner().version;
        let view = self
            .0
            .engine
            .call(move |engine| {
                let digest = engine.resolve(&name)?;
                engine.audited_view(digest)
            })
            .await
            .map_err(status)?;
        Ok(Response::new(convert::version_to_wire(&view)))
    }

    async fn get_lineage(
        &self,
        request: Request<v1::GetModelRequest>,
    ) -> Result<Response<v1::ListModelsResponse>, Status> {
        onlooker(&request)?;
        let name = request.into_inner().version;
        let line = self
            .0
            .engine
            .call(move |engine| {
                let digest = engine.resolve(&name)?;
                engine.lineage(digest)
            })
            .await
            .map_err(status)?;
        Ok(Response::new(models(&line)))
    }

    type WatchStream = Events;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Events>, Status> {
        onlooker(&request)?;
        let v1::WatchRequest { run, from } = request.into_inner();
        let run = match run.as_str() {
            "" => None,
            name => {
                let name = name.to_owned();
                Some(
                    self.0
                        .engine
                        .call(move |engine| engine.find_run(&name))
                        .await
                        .map_err(status)?,
                )
            }
        };
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(follow(self.0.clone(), run, from, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        onlooker(&request)?;
        let name = request.into_inner().run;
        let view = self
            .0
            .engine
            .call(move |engine| {
                let run = engine.find_run(&name)?;
                engine.explain(&run)
            })
            .await
            .map_err(status)?;
        Ok(Response::new(convert::explanation_to_wire(&view)))
    }
}

fn models(views: &[VersionView]) -> v1::ListModelsResponse {
    v1::ListModelsResponse {
        models: views.iter().map(convert::version_to_wire).collect(),
    }
}

/// Sends events from `from` on, then new ones, until the onlooker goes or the coordinator stops.
/// The store is the only source, so a slow onlooker misses nothing and holds nothing.
async fn follow(
    services: Services,
    run: Option<RunId>,
    from: u64,
    sender: mpsc::Sender<Result<v1::Event, Status>>,
) {
    let mut newest = services.engine.newest_event();
    let mut next = if from == u64::MAX {
        *newest.borrow() + 1
    } else {
        from.max(1)
    };
    loop {
        newest.mark_unchanged();
        let of = run.clone();
        let page = match services
            .engine
            .call(move |engine| engine.events(of.as_ref(), next, PAGE))
            .await
        {
            Ok(page) => page,
            Err(failure) => {
                let _ = sender.send(Err(status(failure))).await;
                return;
            }
        };
        let full = page.len() == PAGE;
        for entry in page {
            next = entry.sequence + 1;
            if sender
                .send(Ok(convert::entry_to_wire(&entry)))
                .await
                .is_err()
            {
                return;
            }
        }
        if full {
            continue;
        }
        tokio::select! {
            biased;
            changed = newest.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
            () = services.stop.cancelled() => return,
        }
    }
}
