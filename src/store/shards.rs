//! A Redis Cluster, whose slots may move from one node to another while it is spoken to.

use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::{FromRedisValue, Pipeline, RedisError, RetryMethod, Value};

/// Connections to its nodes.
///
/// While a slot moves, some of our keys are at one node already and the rest at the other still, and each command must be
/// sent to where its key is (`ASK`). The client's word of that (`ASKING`) is good for one command: were all that is asked at one
/// time sent after the first of it, what it says of the others would be read as nothing, and written as keys that are there twice, at
/// which the move stops. So nothing is sent after a redirection but single commands.
pub(super) struct Shards {
    /// All that is asked at one time, which follows nobody.
    all: ClusterConnection,
    client: ClusterClient,
    /// Single commands; there once they were needed.
    single: Option<ClusterConnection>,
}

impl Shards {
    /// Calls them, by clients that are made so.
    pub(super) async fn connect(made: impl Fn() -> ClusterClientBuilder) -> Result<Self, RedisError> {
        let all = made().retries(0).build()?.get_async_connection().await?;
        Ok(Self { all, client: made().retries(FOLLOWED).build()?, single: None })
    }

    /// What they answer. Where a node sends us elsewhere, some of it may have been done, and is done again: nothing that we say
    /// counts twice.
    pub(super) async fn ask<T: FromRedisValue>(&mut self, asked: &Pipeline) -> Result<T, RedisError> {
        match asked.query_async(&mut self.all).await {
            Err(error) if !matches!(error.retry_method(), RetryMethod::NoRetry) => {}
            answered => return answered,
        }
        let single = match &mut self.single {
            Some(single) => single,
            none => none.insert(self.client.get_async_connection().await?),
        };
        let mut answers = Vec::new();
        for command in asked.cmd_iter() {
            // What names no key, which is `TIME`, goes to any of them.
            answers.push(command.query_async::<Value>(single).await?);
        }
        Ok(T::from_redis_value(Value::Array(answers))?)
    }
}

/// How often one command is sent elsewhere, or again.
const FOLLOWED: u32 = 2;
