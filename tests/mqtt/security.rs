//! TLS and credentials, right and wrong.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use weir::config::{MqttConnection, MqttVersion, Secret, Tls};

use crate::harness::*;

type Ca = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Ca {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes `NAME.crt` and `NAME.key` signed by `ca`.
fn certificate(dir: &Path, ca: &Ca, name: &str, host: &str, expired: bool) {
    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    if expired {
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 2, 3));
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, ca).unwrap();
    write(&dir.join(format!("{name}.crt")), &certificate.pem());
    write(&dir.join(format!("{name}.key")), &key.serialize_pem());
}

/// A broker with a server certificate for `host`, and its CA as `ca.crt`.
async fn tls_broker(host: &str, expired: bool, settings: &str) -> (Broker, Ca) {
    let text = format!("cafile $DIR/ca.crt\ncertfile $DIR/server.crt\nkeyfile $DIR/server.key\n{settings}");
    let mut broker = Broker::prepare(&text);
    let ca = authority("weir test CA");
    write(&broker.path("ca.crt"), &ca.pem());
    certificate(broker.dir.path(), &ca, "server", host, expired);
    broker.run().await;
    (broker, ca)
}

fn tls(broker: &Broker, version: MqttVersion) -> MqttConnection {
    let tls = Tls { ca_file: Some(broker.path("ca.crt")), ..Tls::default() };
    MqttConnection { tls: Some(tls), ..connection(broker.port, "gateway", version) }
}

#[tokio::test]
async fn tls_with_a_client_certificate_carries_messages() {
    let (broker, ca) = tls_broker("127.0.0.1", false, "require_certificate true\n").await;
    certificate(broker.dir.path(), &ca, "client", "client", false);
    for version in [MqttVersion::V5, MqttVersion::V311] {
        let mut to = tls(&broker, version);
        let settings = to.tls.as_mut().unwrap();
        (settings.cert_file, settings.key_file) = (Some(broker.path("client.crt")), Some(broker.path("client.key")));
        to.client_id = format!("gateway-{version:?}");
        let mut gateway = Tested::new(to, &["t/#"]);
        gateway.ready().await;
        assert!(gateway.link.status().connected);
        gateway.link.close().await;
    }

    let mut without = Tested::new(tls(&broker, MqttVersion::V5), &["t/#"]);
    let said = without.error("TLS").await;
    assert!(said.contains("client certificate"), "{said}");
}

#[tokio::test]
async fn every_fault_of_the_servers_certificate_has_its_own_words() {
    let (expired, _) = tls_broker("127.0.0.1", true, "").await;
    let said = Tested::new(tls(&expired, MqttVersion::Auto), &["t/#"]).error("expired on 2021-02-03").await;
    assert!(said.contains("our clock says 20") && said.contains("set the clock"), "{said}");

    let (stranger, _) = tls_broker("127.0.0.1", false, "").await;
    write(&stranger.path("ca.crt"), &authority("somebody else").pem());
    Tested::new(tls(&stranger, MqttVersion::Auto), &["t/#"]).error("not signed by any certificate in ca-file").await;

    let (misnamed, _) = tls_broker("broker.example", false, "").await;
    let said = Tested::new(tls(&misnamed, MqttVersion::Auto), &["t/#"]).error("server-name").await;
    assert!(said.contains("broker.example") && said.contains("not for 127.0.0.1"), "{said}");
    let mut to = tls(&misnamed, MqttVersion::Auto);
    to.tls.as_mut().unwrap().server_name = Some("broker.example".to_owned());
    Tested::new(to, &["t/#"]).ready().await;
}

#[tokio::test]
async fn tls_on_a_plain_port_and_plain_on_a_tls_port_are_told() {
    let plain = Broker::start("").await;
    write(&plain.path("ca.crt"), &authority("any").pem());
    Tested::new(tls(&plain, MqttVersion::Auto), &["t/#"]).error(&plain.port.to_string()).await;
    let (broker, _) = tls_broker("127.0.0.1", false, "").await;
    let to = connection(broker.port, "gateway", MqttVersion::Auto);
    Tested::new(to, &["t/#"]).error("does it expect TLS").await;
}

#[tokio::test]
async fn a_wrong_password_is_told_by_user_and_place_and_never_by_itself() {
    let mut broker = Broker::prepare("allow_anonymous false\npassword_file $DIR/passwords\n");
    let hashed = std::process::Command::new("mosquitto_passwd")
        .args(["-b", "-c"])
        .arg(broker.path("passwords"))
        .args(["gateway", "right"])
        .status();
    if !hashed.is_ok_and(|status| status.success()) {
        eprintln!("no mosquitto_passwd: every password is wrong, none is right");
        write(&broker.path("passwords"), "");
    }
    broker.run().await;
    let has_right = std::fs::metadata(broker.path("passwords")).unwrap().len() > 0;
    for version in [MqttVersion::V5, MqttVersion::V311] {
        let secret = broker.path("secret");
        write(&secret, "hunter2\n");
        let mut to = connection(broker.port, &format!("gateway-{version:?}"), version);
        (to.username, to.password) = (Some("gateway".to_owned()), Some(Secret::File(secret.clone())));
        let mut gateway = Tested::new(to.clone(), &["t/#"]);
        let said = gateway.error("refused the connection").await;
        assert!(said.contains("user name `gateway`") && said.contains(&secret.display().to_string()), "{said}");
        assert!(!said.contains("hunter2"));
        if has_right {
            // Put right, it is read again at the next attempt.
            write(&secret, "right\n");
            gateway.ready().await;
        }
    }
}
