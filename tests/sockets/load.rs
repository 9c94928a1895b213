//! The load bench does what it says: every line of its table comes about, for HAProxy and for us. What the figures are is
//! not looked at here.

#[path = "../../benches/load/main.rs"]
#[allow(dead_code)] // its own main function
mod bench;

#[test]
fn the_load_bench_fills_every_line_of_its_table() {
    let table = bench::run(&bench::Options::quick());
    assert!(table.missing().is_empty(), "lines without figures: {:?}", table.missing());
    let text = table.text();
    assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    assert_eq!(table.json()["rows"].as_array().map(Vec::len), Some(bench::LINES), "{text}");
}

#[test]
fn two_builds_are_compared_where_a_row_shows_nothing_at_all_for_one_of_them() {
    let gateway = env!("CARGO_BIN_EXE_gatehouse");
    let words = ["--quick", "--gateway", gateway, "--against", gateway, "--only", "idle"];
    let table = bench::run(&bench::Options::read(words.into_iter().map(str::to_owned)));
    let text = table.text();
    assert!(text.contains("idle") && !text.contains("NaN") && !text.contains("inf"), "{text}");
}

#[test]
fn without_haproxy_its_rows_are_figures_and_no_verdict() {
    let words = ["--quick", "--ours", "--only", "echo"];
    let table = bench::run(&bench::Options::read(words.into_iter().map(str::to_owned)));
    let text = table.text();
    assert!(text.contains("echoed") && !text.contains("NaN") && !text.contains("REACHED"), "{text}");
}

#[test]
fn how_often_the_rules_are_read_again_can_be_said() {
    let reloads =
        |words: &[&str]| bench::Options::read(words.iter().map(|word| (*word).to_owned())).size().reloads;
    assert_eq!(
        (reloads(&[]), reloads(&["--reloads", "7"]), reloads(&["--quick", "--reloads", "2"])),
        (50, 7, 2)
    );
}
