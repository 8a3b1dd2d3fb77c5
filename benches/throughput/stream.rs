//! The client's side of a `Session`: workers that share a stream, each with one call at a time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use segue::grpc::proto;
use segue::grpc::proto::pipeline_request::Call;
use segue::grpc::proto::pipeline_response::Answer;
use segue::grpc::proto::sql_client::SqlClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::channel::Channel;
use crate::contender::Seen;

/// A stream that workers share. Clones are workers.
pub struct Stream {
    shared: Arc<Shared>,
    id: u64,
    answers: mpsc::UnboundedReceiver<Answer>,
}

struct Shared {
    requests: mpsc::UnboundedSender<proto::PipelineRequest>,
    workers: Mutex<HashMap<u64, mpsc::UnboundedSender<Answer>>>,
    last_id: AtomicU64,
}

impl Stream {
    /// Opens a stream; the first worker on it.
    pub async fn open(mut client: SqlClient<Channel>) -> Self {
        let (requests, receiver) = mpsc::unbounded_channel();
        let receiver = UnboundedReceiverStream::new(receiver);
        let mut answers = client.pipeline(receiver).await.unwrap().into_inner();
        let shared =
            Arc::new(Shared { requests, workers: Mutex::default(), last_id: AtomicU64::new(0) });
        let workers = Arc::downgrade(&shared);
        tokio::spawn(async move {
            while let Ok(Some(response)) = answers.message().await {
                let Some(shared) = workers.upgrade() else { return };
                let workers = shared.workers.lock().unwrap();
                let _ = workers[&response.id].send(response.answer.unwrap());
            }
        });
        Self::on(shared)
    }

    /// Another worker on the same stream.
    pub fn beside(&self) -> Self {
        Self::on(Arc::clone(&self.shared))
    }

    /// A worker has one id, since it has one call at a time.
    fn on(shared: Arc<Shared>) -> Self {
        let id = shared.last_id.fetch_add(1, Ordering::Relaxed);
        let (sender, answers) = mpsc::unbounded_channel();
        shared.workers.lock().unwrap().insert(id, sender);
        Self { shared, id, answers }
    }

    fn send(&mut self, call: Call) {
        let call = Some(call);
        let request = proto::PipelineRequest { id: self.id, call, ..Default::default() };
        self.shared.requests.send(request).unwrap();
    }

    async fn answer(&mut self) -> Answer {
        self.answers.recv().await.expect("the stream goes on")
    }

    pub async fn query(&mut self, query: proto::QueryRequest) -> Seen {
        self.send(Call::Query(query));
        let mut seen = Seen::default();
        while seen.footer.is_none() {
            let Answer::Query(part) = self.answer().await else { panic!("a query failed") };
            seen.part(part);
        }
        seen
    }

    pub async fn execute(&mut self, execute: proto::ExecuteRequest) -> u64 {
        self.send(Call::Execute(execute));
        match self.answer().await {
            Answer::Execute(answer) => answer.affected_rows(),
            other => panic!("a write failed: {other:?}"),
        }
    }
}
