//! The MQTT link and the sinks against a real mosquitto, real clients, and brokers that misbehave.

mod harness;
mod link;
mod security;
mod sink;
mod trouble;
