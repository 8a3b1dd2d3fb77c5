use std::io;

use bytes::BytesMut;

use super::SKIPPED;
use super::scan::Scanner;
use super::wire::{MERGED_MAX, Wire};

fn message(tag: char, body: &str) -> Vec<u8> {
    let mut message = vec![u8::try_from(tag).unwrap()];
    message.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    message.extend(body.as_bytes());
    message
}

/// Messages in short: `B1` is one of type `B` with the body `1`.
fn messages(short: &str) -> Vec<u8> {
    short.split_whitespace().flat_map(|it| message(it.chars().next().unwrap(), &it[1..])).collect()
}

fn shorten(bytes: &[u8]) -> String {
    let (mut scanner, mut rest, mut found) = (Scanner::default(), bytes, Vec::new());
    while !rest.is_empty() {
        let (taken, tag) = scanner.next(rest).unwrap();
        let tag = char::from(tag.expect("whole messages"));
        let body = String::from_utf8_lossy(&rest[5..taken]).into_owned();
        found.push(match body {
            body if body.contains(SKIPPED) => format!("{tag}skipped"),
            body => format!("{tag}{body}"),
        });
        rest = &rest[taken..];
    }
    found.join(" ")
}

fn startup(code: u32) -> Vec<u8> {
    [8_u32.to_be_bytes(), code.to_be_bytes()].concat()
}

fn logged_in() -> Wire {
    let mut wire = Wire::default();
    wire.send(&startup(196_608), true).unwrap();
    wire.sent.clear();
    wire
}

fn send(wire: &mut Wire, short: &str) -> String {
    wire.send(&messages(short), true).unwrap();
    shorten(&wire.sent.split())
}

/// What the driver gets, the server's bytes coming in pieces of `step`.
fn receive(wire: &mut Wire, short: &str, step: usize) -> String {
    let mut into = BytesMut::new();
    for piece in messages(short).chunks(step) {
        wire.receive(piece, &mut into).unwrap();
    }
    shorten(&into)
}

const STEPS: [usize; 4] = [1, 3, 7, 1000];

#[test]
fn requests_sent_together_have_one_sync_and_all_answers() {
    for step in STEPS {
        let mut wire = logged_in();
        assert_eq!(send(&mut wire, "B1 E S B2 E S B3 E S"), "B1 E B2 E B3 E S");
        assert!(!wire.is_plain());
        let answers = receive(&mut wire, "2 D1 Ca 2 I 2 D3 D4 s ZI", step);
        assert_eq!(answers, "2 D1 Ca ZI 2 I ZI 2 D3 D4 s ZI");
        assert!(wire.is_plain());
        // What is sent one by one is as the driver sends it.
        assert_eq!(send(&mut wire, "B1 E S"), "B1 E S");
        assert_eq!(send(&mut wire, "B2 E S"), "B2 E S");
        assert!(wire.is_plain());
        assert_eq!(receive(&mut wire, "2 Ca ZI 2 Cb ZI", step), "2 Ca ZI 2 Cb ZI");
    }
}

#[test]
fn what_stands_behind_a_failed_request_is_said_to_be_skipped() {
    for step in STEPS {
        let mut wire = logged_in();
        send(&mut wire, "B1 E S B2 E S B3 E S B4 E S");
        // The next piece is on its way already.
        send(&mut wire, "B5 E S B6 E S");
        let answers = receive(&mut wire, "2 Ca Nnotice Eno ZI 2 Ce 2 Cf ZI", step);
        let skipped = "Eskipped ZI Eskipped ZI";
        assert_eq!(answers, format!("2 Ca ZI Nnotice Eno ZI {skipped} 2 Ce ZI 2 Cf ZI"));
        assert!(wire.is_plain());
        // Where something has failed nothing is merged for a while, and then again.
        let unmerged = (0..1000).take_while(|_| send(&mut wire, "B E S B E S") == "B E S B E S");
        assert_eq!(unmerged.count(), 128);
    }
}

#[test]
fn the_last_request_fails_alone() {
    let mut wire = logged_in();
    send(&mut wire, "B1 E S B2 E S");
    assert_eq!(receive(&mut wire, "2 Ca 2 D1 Eno ZI", 1000), "2 Ca ZI 2 D1 Eno ZI");
    assert_eq!(send(&mut wire, "B1 E S B2 E S"), "B1 E B2 E S");
}

#[test]
fn a_session_that_ends_says_nothing_of_those_behind() {
    let mut wire = logged_in();
    send(&mut wire, "B1 E S B2 E S B3 E S");
    assert_eq!(receive(&mut wire, "2 Ca Efatal", 1000), "2 Ca ZI Efatal");
}

#[test]
fn only_executed_statements_are_merged() {
    let mut wire = logged_in();
    for apart in ["Ps D S", "C1 S", "Bs D E S", "Bs E E S", "Qselect", "S", "B E H S"] {
        let sent = format!("B1 E S {apart} B2 E S B3 E S");
        assert_eq!(send(&mut wire, &sent), format!("B1 E S {apart} B2 E B3 E S"));
        let answers = receive(&mut wire, "2 Ca ZI 1 Cx Cy ZI 2 Cb 2 Cc ZI", 1000);
        assert_eq!(answers, "2 Ca ZI 1 Cx Cy ZI 2 Cb ZI 2 Cc ZI");
    }
    assert_eq!(send(&mut wire, "B1 E S X"), "B1 E S X");
    let mut wire = logged_in();
    wire.send(&messages("B1 E S B2 E S"), false).unwrap();
    assert_eq!(shorten(&wire.sent), "B1 E S B2 E S");
}

#[test]
fn a_piece_has_so_many_requests_and_no_more() {
    let mut wire = logged_in();
    let sent = send(&mut wire, &"B E S ".repeat(2 * MERGED_MAX + 1));
    assert_eq!(sent.matches('S').count(), 3, "{sent}");
    let answer = "2 C ".repeat(MERGED_MAX);
    let answers = receive(&mut wire, &format!("{answer} ZI {answer} ZI 2 C ZI"), 5);
    assert_eq!(answers.matches('Z').count(), 2 * MERGED_MAX + 1, "{answers}");
    assert!(wire.is_plain());
}

#[test]
fn requests_may_come_in_parts() {
    let mut wire = logged_in();
    let whole = messages("B1 E S B2 E S");
    for byte in whole.chunks(1) {
        wire.send(byte, true).unwrap();
    }
    assert_eq!(shorten(&wire.sent), "B1 E S B2 E S");
}

#[test]
fn the_login_is_passed_on() {
    let mut wire = Wire::default();
    wire.send(&startup(80_877_103), true).unwrap();
    wire.send(&startup(196_608), true).unwrap();
    wire.send(&messages("ppassword"), true).unwrap();
    let sent = [startup(80_877_103), startup(196_608), messages("ppassword")].concat();
    assert_eq!(&wire.sent[..], &sent[..]);
    // The answer about TLS is one byte.
    let answers = [b"N".to_vec(), messages("R Sa K ZI")].concat();
    let mut into = BytesMut::new();
    for byte in answers.chunks(1) {
        wire.receive(byte, &mut into).unwrap();
    }
    assert_eq!(&into[..], &answers[..]);
    wire.sent.clear();
    assert_eq!(send(&mut wire, "B1 E S B2 E S"), "B1 E B2 E S");
}

#[test]
fn what_is_not_the_protocol_is_an_error() {
    let invalid = |result: io::Result<()>| result.unwrap_err().kind() == io::ErrorKind::InvalidData;
    assert!(invalid(logged_in().send(b"B\0\0\0\0", true)));
    assert!(invalid(logged_in().send(&messages("drow"), true)));
    assert!(invalid(Wire::default().send(&[0; 8], true)));
    assert!(invalid(logged_in().receive(b"D\0\0\0\x03", &mut BytesMut::new())));
    let mut wire = logged_in();
    send(&mut wire, "B1 E S B2 E S");
    assert!(invalid(wire.receive(&messages("2 ZI"), &mut BytesMut::new())));
}
