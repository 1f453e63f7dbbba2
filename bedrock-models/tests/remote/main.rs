//! Remote providers against recorded traffic and a server on loopback that misbehaves.

mod ai21;
mod anthropic;
mod bedrock;
mod clock;
mod cohere;
mod openai;
mod play;
mod server;
mod transport;
