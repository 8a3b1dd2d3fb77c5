//! The client's side of a `Session`: one call at a time, as one worker makes them.

use segue::grpc::proto;
use segue::grpc::proto::session_request::Call;
use segue::grpc::proto::session_response::Answer;
use segue::grpc::proto::sql_client::SqlClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::contender::Seen;

/// A worker's stream.
pub struct Stream {
    requests: mpsc::UnboundedSender<proto::SessionRequest>,
    answers: Streaming<proto::SessionResponse>,
    last_id: u64,
}

impl Stream {
    pub async fn open(mut client: SqlClient<Channel>) -> Self {
        let (requests, receiver) = mpsc::unbounded_channel();
        let receiver = UnboundedReceiverStream::new(receiver);
        let answers = client.session(receiver).await.unwrap().into_inner();
        Self { requests, answers, last_id: 0 }
    }

    fn send(&mut self, call: Call) {
        self.last_id += 1;
        let request = proto::SessionRequest {
            id: self.last_id,
            call: Some(call),
            ..proto::SessionRequest::default()
        };
        self.requests.send(request).unwrap();
    }

    async fn answer(&mut self) -> Answer {
        let response = self.answers.message().await.unwrap().expect("the stream goes on");
        assert_eq!(response.id, self.last_id);
        response.answer.unwrap()
    }

    pub async fn query(&mut self, query: proto::QueryRequest) -> Seen {
        self.send(Call::Query(query));
        let mut seen = Seen::default();
        while seen.footer.is_none() {
            let Answer::Query(part) = self.answer().await else { panic!("a query failed") };
            if let Some(rows) = &part.rows {
                seen.typed(rows);
            }
            if let Some(packed) = &part.packed {
                seen.packed(packed);
            }
            seen.footer = part.footer;
        }
        seen
    }

    pub async fn execute(&mut self, execute: proto::ExecuteRequest) -> u64 {
        self.send(Call::Execute(execute));
        match self.answer().await {
            Answer::Execute(answer) => answer.affected_rows,
            other => panic!("a write failed: {other:?}"),
        }
    }
}
