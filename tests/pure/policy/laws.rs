//! What holds for whatever rules.

use super::*;

fn rule_lines() -> impl Strategy<Value = Vec<String>> {
    let label = prop::sample::select(vec!["a", "b", "c"]);
    let pattern = (any::<bool>(), prop::collection::vec(label, 1..3))
        .prop_map(|(wild, labels)| format!("{}{}.example", if wild { "*." } else { "" }, labels.join(".")));
    let extra = prop::sample::select(vec![
        "",
        ", verdict: deny",
        ", direction: inbound",
        ", identity: [certificate]",
        ", tls: \"1.3\"",
        ", networks: [192.0.2.0/24]",
        ", expires: 2020-01-01",
        ", hosted: [other.example]",
    ]);
    let line = |(number, (pattern, extra)): (usize, (String, &str))| {
        format!("  - {{ name: r{number}, domains: [\"{pattern}\"]{extra} }}\n")
    };
    prop::collection::btree_map(pattern, extra, 0..8)
        .prop_map(move |map| map.into_iter().enumerate().map(line).collect())
}

proptest! {
    // Order never matters, within a file and between files.
    #[test]
    fn order_never_decides(
        (lines, shuffled) in rule_lines().prop_flat_map(|lines| (Just(lines.clone()), Just(lines).prop_shuffle())),
        remote in "([abc][.]){1,3}example",
        outbound in any::<bool>(),
        dialback in any::<bool>(),
        old_tls in any::<bool>(),
        inside in prop::option::of(any::<bool>()),
    ) {
        let file = |lines: &[String]| format!("version: v1\nrules:\n{}", lines.concat());
        let (first, second) = shuffled.split_at(shuffled.len() / 2);
        let (straight, crooked) = (file(&lines), [file(second), file(first)]);
        let (one, _) = build(&input(Federation::Any, &[&straight]));
        let (two, _) = build(&input(Federation::Any, &[&crooked[0], &crooked[1]]));
        let ask = Ask {
            direction: if outbound { Direction::Outbound } else { Direction::Inbound },
            identity: if dialback { Identity::Dialback } else { Identity::Certificate },
            tls: if old_tls { Tls::V12 } else { Tls::V13 },
            address: inside.map(|inside| if inside { "192.0.2.1" } else { "198.51.100.1" }.parse().unwrap()),
            ..from(&remote)
        };
        let (one, two) = (ask.of(&one.unwrap()), ask.of(&two.unwrap()));
        prop_assert_eq!((one.outcome, one.reason, one.rule), (two.outcome, two.reason, two.rule));
    }

    // Whatever a file says, it is compiled or refused, and never panics.
    #[test]
    fn no_file_makes_it_panic(words in prop::collection::vec("[a-z*.:0-9/]{0,12}", 12)) {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = <[String; 12]>::try_from(words).unwrap();
        let text = format!(
            "version: v1\ndefaults: {{ tls: \"{a}\", identity: [\"{b}\"] }}\nrules:\n  - {{ name: \"{c}\", \
             domains: [\"{d}\", \"*.{e}\"], networks: [\"{f}\"], expires: \"{g}\", limits: {{ stanzas: \"{h}\", \
             octets: \"{i}\" }} }}\nexpect:\n  - {{ from: \"{j}\", to: \"{k}\", verdict: \"{l}\" }}\n"
        );
        let (file, _) = load::parse::<PolicyFile>(&text, "p.yaml");
        let input = stand_alone(Source::new("p.yaml", file), day("2026-11-21"));
        let one = compile(&input).map_err(|findings| findings.len()).map(|compiled| compiled.cases);
        let two = compile(&input).map_err(|findings| findings.len()).map(|compiled| compiled.cases);
        prop_assert_eq!(one, two);
    }
}
