//! What operators and viewers may look at.

use std::pin::Pin;

use fedner_proto::{convert, v1};
use fedner_shared::digest::canonical_text;
use fedner_shared::id::{InstitutionId, RunId};
use fedner_shared::refusal::{Code, Refusal};
use fedner_shared::view::VersionView;
use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::Services;
use super::gate::{guest, status};
use super::page::page;
use super::ration::STALLED;
use crate::door::Stream as Place;
use crate::engine::Handle;

/// Events read from the store at a time.
const PAGE: usize = 200;

#[derive(Debug)]
pub(super) struct Monitoring(pub(super) Services);

type Events = Pin<Box<dyn Stream<Item = Result<v1::Event, Status>> + Send>>;

#[tonic::async_trait]
impl v1::monitoring_server::Monitoring for Monitoring {
    async fn list_runs(
        &self,
        request: Request<v1::ListRunsRequest>,
    ) -> Result<Response<v1::ListRunsResponse>, Status> {
        let engine = self.0.viewer(&request)?;
        let views = engine
            .call(|engine| Ok(engine.run_views()))
            .await
            .map_err(status)?;
        let v1::ListRunsRequest {
            page_size,
            page_token,
        } = request.into_inner();
        let asked = (page_size, page_token.as_str());
        let (runs, next_page_token) = page(&views, asked, convert::run_to_wire).map_err(status)?;
        Ok(Response::new(v1::ListRunsResponse {
            runs,
            next_page_token,
        }))
    }

    async fn get_run(
        &self,
        request: Request<v1::GetRunRequest>,
    ) -> Result<Response<v1::Run>, Status> {
        let engine = self.0.viewer(&request)?;
        let name = request.into_inner().run;
        let view = engine
            .call(move |engine| {
                let run = engine.find_run(&name)?;
                Ok((engine.run_view(&run)?, engine.plan_of(&run)?))
            })
            .await
            .map_err(status)?;
        let (view, plan) = view;
        let mut run = convert::run_to_wire(&view);
        run.plan_text = canonical_text(&plan);
        Ok(Response::new(run))
    }

    async fn list_institutions(
        &self,
        request: Request<v1::ListInstitutionsRequest>,
    ) -> Result<Response<v1::ListInstitutionsResponse>, Status> {
        let engine = self.0.viewer(&request)?;
        let views = engine
            .call(crate::engine::Engine::institution_views)
            .await
            .map_err(status)?;
        let v1::ListInstitutionsRequest {
            page_size,
            page_token,
        } = request.into_inner();
        let asked = (page_size, page_token.as_str());
        let (institutions, next_page_token) =
            page(&views, asked, convert::institution_to_wire).map_err(status)?;
        Ok(Response::new(v1::ListInstitutionsResponse {
            institutions,
            next_page_token,
        }))
    }

    async fn get_institution(
        &self,
        request: Request<v1::GetInstitutionRequest>,
    ) -> Result<Response<v1::Institution>, Status> {
        let engine = self.0.viewer(&request)?;
        let name: InstitutionId =
            convert::parsed("institution", &request.into_inner().institution).map_err(status)?;
        let views = engine
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
        let engine = self.0.viewer(&request)?;
        let views = engine
            .call(crate::engine::Engine::model_views)
            .await
            .map_err(status)?;
        let v1::ListModelsRequest {
            page_size,
            page_token,
        } = request.into_inner();
        models(&views, (page_size, &page_token)).map_err(status)
    }

    async fn get_model(
        &self,
        request: Request<v1::GetModelRequest>,
    ) -> Result<Response<v1::ModelVersion>, Status> {
        let engine = self.0.viewer(&request)?;
        let name = request.into_inner().version;
        let view = engine
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
        let engine = self.0.viewer(&request)?;
        let v1::GetModelRequest {
            version: name,
            page_size,
            page_token,
        } = request.into_inner();
        let line = engine
            .call(move |engine| {
                let digest = engine.resolve(&name)?;
                engine.lineage(digest)
            })
            .await
            .map_err(status)?;
        models(&line, (page_size, &page_token)).map_err(status)
    }

    type WatchStream = Events;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Events>, Status> {
        let engine = self.0.viewer(&request)?;
        let place = guest(&request)?.watches.begin();
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
        let following = Following {
            engine,
            run,
            next: from,
            sender,
            place,
            stop: self.0.stop.clone(),
        };
        tokio::spawn(following.follow());
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        let engine = self.0.viewer(&request)?;
        let name = request.into_inner().run;
        let view = engine
            .call(move |engine| {
                let run = engine.find_run(&name)?;
                engine.explain(&run)
            })
            .await
            .map_err(status)?;
        Ok(Response::new(convert::explanation_to_wire(&view)))
    }
}

fn models(
    views: &[VersionView],
    asked: (u32, &str),
) -> Result<Response<v1::ListModelsResponse>, Refusal> {
    let (models, next_page_token) = page(views, asked, convert::version_to_wire)?;
    Ok(Response::new(v1::ListModelsResponse {
        models,
        next_page_token,
    }))
}

/// A stream of events.
struct Following {
    engine: Handle,
    run: Option<RunId>,
    next: u64,
    sender: mpsc::Sender<Result<v1::Event, Status>>,
    place: Place,
    stop: CancellationToken,
}

impl Following {
    /// Sends events from the wanted one on, then new ones, until the viewer goes, takes nothing for long,
    /// or begins too many other streams, or the coordinator stops. The store is the only source, so a slow
    /// viewer misses nothing and holds nothing.
    async fn follow(mut self) {
        let superseded = self.place.superseded();
        let stop = self.stop.clone().cancelled_owned();
        let status = tokio::select! {
            biased;
            status = self.send_all() => status,
            () = stop => None,
            () = superseded => {
                Some(Status::aborted("a newer stream of yours took this one's place"))
            }
        };
        if let Some(status) = status {
            let _ = tokio::time::timeout(STALLED, self.sender.send(Err(status))).await;
        }
    }

    async fn send_all(&mut self) -> Option<Status> {
        let mut newest = self.engine.newest_event();
        self.next = match self.next {
            u64::MAX => *newest.borrow() + 1,
            from => from.max(1),
        };
        loop {
            newest.mark_unchanged();
            let (of, next) = (self.run.clone(), self.next);
            let page = self
                .engine
                .call(move |engine| engine.events(of.as_ref(), next, PAGE));
            let page = match page.await {
                Ok(page) => page,
                Err(failure) => return Some(status(failure)),
            };
            let full = page.len() == PAGE;
            for entry in page {
                self.next = entry.sequence + 1;
                let event = self.sender.send(Ok(convert::entry_to_wire(&entry)));
                // A viewer that takes nothing for so long is gone; it may come back for the rest.
                match tokio::time::timeout(STALLED, event).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) | Err(_) => return None,
                }
            }
            if full {
                continue;
            }
            tokio::select! {
                biased;
                changed = newest.changed() => if changed.is_err() { return None },
                () = self.sender.closed() => return None,
            }
        }
    }
}
