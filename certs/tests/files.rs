//! Stories of identities on disk: made once, private from birth, checked before use.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use quorate_certs::{
    AgentName, Authority, CertsError, ClusterId, Date, Identity, Kind, Role, Scope, Severity, Subject,
    VALIDITY_LEAF_DAYS, Validity, inspect, verify,
};

fn cluster() -> ClusterId {
    ClusterId::random().unwrap()
}

fn name(text: &str) -> AgentName {
    AgentName::new(text).unwrap()
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[cfg(unix)]
fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The layout of the command line: an authority, and one directory for each identity.
#[test]
fn an_authority_issues_and_everything_can_be_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("pki");
    let id = cluster();
    Authority::create(id).unwrap().save(&out).unwrap();
    let authority = Authority::load(&out).unwrap();
    assert_eq!(authority.scope(), Scope::Cluster(id));

    let agent = Subject::agent(id, name("a1"));
    let client = Subject::client(id, Role::Append, name("ci"));
    for subject in [&agent, &client] {
        let at = authority.issue_to(subject, Validity::default(), &out).unwrap();
        assert_eq!(at, out.join(subject.name().as_str()));
        let identity = Identity::load(&at).unwrap();
        assert_eq!(identity.subject(), subject);
        let days = Date::now().days_until(identity.not_after());
        assert!((VALIDITY_LEAF_DAYS - 1..=VALIDITY_LEAF_DAYS).contains(&days));
        let backdated = identity.not_before().days_until(Date::now().plus_seconds(23 * 3600));
        assert_eq!(backdated, 1, "backdated by one hour");
    }

    let said = inspect(&out.join("ci")).unwrap();
    assert_eq!((said.kind, said.role, said.cluster), (Kind::Client, Some(Role::Append), Some(id)));
    assert_eq!(said.subject, client.uri());
    assert_eq!(said.fingerprint.len(), 64);
    assert_eq!(said.serial.len(), 32);
    let said = inspect(&out.join("ca.pem")).unwrap();
    assert_eq!((said.kind, said.cluster), (Kind::Authority, Some(id)));
    assert!(verify(&out).iter().all(|finding| finding.severity == Severity::Good), "{:?}", verify(&out));
    assert_eq!(verify(&out).len(), 3);
}

#[cfg(unix)]
#[test]
fn keys_are_private_and_directories_too() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("pki");
    let id = cluster();
    let authority = Authority::create(id).unwrap();
    authority.save(&out).unwrap();
    let agent = authority.issue_to(&Subject::agent(id, name("a1")), Validity::default(), &out).unwrap();
    assert_eq!(mode(&out), 0o700);
    assert_eq!(mode(&out.join("ca.key")), 0o600);
    assert_eq!(mode(&agent), 0o700);
    assert_eq!(mode(&agent.join("key.pem")), 0o600);

    chmod(&agent.join("key.pem"), 0o640);
    let error = Identity::load(&agent).unwrap_err();
    assert!(matches!(error, CertsError::Loose { mode: 0o640, .. }));
    assert!(error.to_string().contains("chmod 600"), "{error}");
    chmod(&out.join("ca.key"), 0o604);
    assert!(matches!(Authority::load(&out), Err(CertsError::Loose { .. })));
    chmod(&agent.join("key.pem"), 0o400);
    Identity::load(&agent).unwrap();
}

#[test]
fn nothing_is_ever_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let id = cluster();
    let authority = Authority::create(id).unwrap();
    authority.save(dir.path()).unwrap();
    let before = fs::read(dir.path().join("ca.key")).unwrap();
    assert!(matches!(Authority::create(id).unwrap().save(dir.path()), Err(CertsError::Exists(_))));
    assert_eq!(fs::read(dir.path().join("ca.key")).unwrap(), before);

    let subject = Subject::agent(id, name("a1"));
    let at = authority.issue_to(&subject, Validity::default(), dir.path()).unwrap();
    let before = fs::read(at.join("key.pem")).unwrap();
    assert!(matches!(authority.issue_to(&subject, Validity::default(), dir.path()), Err(CertsError::Exists(_))));
    assert_eq!(fs::read(at.join("key.pem")).unwrap(), before);
    // Half of an authority is not completed with the half of another one.
    fs::remove_file(dir.path().join("ca.pem")).unwrap();
    assert!(matches!(Authority::create(id).unwrap().save(dir.path()), Err(CertsError::Exists(_))));
    assert!(!dir.path().join("ca.pem").exists());
}

/// Every way in which a directory can be wrong has its own error, which names the file and the next step.
#[test]
fn each_fault_of_a_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let id = cluster();
    let authority = Authority::create(id).unwrap();
    let issue = |to: &str, validity| {
        let at = dir.path().join(to);
        authority.issue(&Subject::agent(id, name("a1")), validity).unwrap().save(&at).unwrap();
        at
    };
    let fault = |at: &Path| Identity::load(at).unwrap_err();
    let now = Date::now();

    let at = issue("expired", Validity { not_before: now.plus_days(-2), not_after: now.plus_days(-1) });
    assert!(matches!(fault(&at), CertsError::Expired { .. }));
    let at = issue("early", Validity { not_before: now.plus_days(1), not_after: now.plus_days(2) });
    assert!(matches!(fault(&at), CertsError::NotYetValid { .. }));

    let (one, two) = (issue("one", Validity::default()), issue("two", Validity::default()));
    fs::copy(two.join("key.pem"), one.join("key.pem")).unwrap();
    assert!(matches!(fault(&one), CertsError::KeyMismatch { .. }));

    let other = Authority::create(id).unwrap();
    fs::write(two.join("ca.pem"), other.ca_pem()).unwrap();
    assert!(matches!(fault(&two), CertsError::OtherAuthority { .. }));

    let at = issue("no-key", Validity::default());
    fs::remove_file(at.join("key.pem")).unwrap();
    assert!(matches!(fault(&at), CertsError::Missing { .. }));
    let at = issue("no-pem", Validity::default());
    fs::write(at.join("cert.pem"), "hello").unwrap();
    assert!(matches!(fault(&at), CertsError::Malformed { .. }));
    let at = issue("torn", Validity::default());
    let whole = fs::read(at.join("cert.pem")).unwrap();
    fs::write(at.join("cert.pem"), &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(fault(&at), CertsError::Malformed { .. }));

    for entry in fs::read_dir(dir.path()).unwrap() {
        let at = entry.unwrap().path();
        let text = fault(&at).to_string();
        assert!(text.contains(at.to_str().unwrap()) && text.contains(';') && !text.contains('\n'), "{text}");
        assert!(verify(&at).iter().any(|finding| finding.severity == Severity::Error));
    }
}

#[test]
fn an_authority_keeps_to_its_cluster_and_the_dev_authority_does_not_need_to() {
    let (ours, other) = (cluster(), cluster());
    let authority = Authority::create(ours).unwrap();
    let stranger = Subject::agent(other, name("a1"));
    let error = authority.issue(&stranger, Validity::default()).unwrap_err();
    assert!(matches!(error, CertsError::OtherCluster { .. }), "{error}");

    let dir = tempfile::tempdir().unwrap();
    Authority::create_dev().unwrap().save(dir.path()).unwrap();
    let dev = Authority::load(dir.path()).unwrap();
    assert_eq!(dev.scope(), Scope::Dev);
    for id in [ours, other] {
        let issued = dev.issue(&Subject::agent(id, name("a1")), Validity::default()).unwrap();
        assert_eq!(Identity::from_issued(&issued).unwrap().cluster(), id);
    }
}

#[test]
fn two_issues_share_neither_serial_nor_key() {
    let id = cluster();
    let authority = Authority::create(id).unwrap();
    let subject = Subject::agent(id, name("a1"));
    let [one, two] = [0, 1].map(|_| authority.issue(&subject, Validity::default()).unwrap());
    assert_ne!(one.key_pem, two.key_pem);
    let prints = [one, two].map(|issued| Identity::from_issued(&issued).unwrap().fingerprint());
    assert_ne!(prints[0], prints[1]);
}

/// TLS itself does not look at the authority's own dates; `verify` does.
#[test]
fn an_expired_authority_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let id = cluster();
    let now = Date::now();
    let over = Validity { not_before: now.plus_days(-2), not_after: now.plus_days(-1) };
    let authority = Authority::create_for(Scope::Cluster(id), over).unwrap();
    authority.save(dir.path()).unwrap();
    authority.issue_to(&Subject::agent(id, name("a1")), Validity::default(), dir.path()).unwrap();
    let findings = verify(dir.path());
    assert_eq!(findings.len(), 2);
    for finding in findings {
        assert_eq!(finding.severity, Severity::Error);
        assert!(finding.text.contains("authority expired"), "{}", finding.text);
    }
}
