//! Known weaknesses of the field, our defence, and the test that shows it.
//!
//! Each test is named by its file and function; `tests/docs.rs` makes sure that it exists. What has no test is not in this table.
//!
//! # Who is speaking
//!
//! | what went wrong elsewhere | why it cannot here | shown by |
//! | --- | --- | --- |
//! | Unsolicited dialback answers were believed: whoever sent `type='valid'` was authenticated (2012, several servers; CVE-2012-3525 and kin) | An answer counts only if it is the answer to a question of ours: same leg, pair and stream id; on any other leg it is dropped or a fault | `tests/explore.rs::only_asked_answers`, `tests/federation.rs::an_answer_that_nobody_asked_for_changes_nothing`, `tests/federation.rs::an_answer_about_another_pair_admits_nobody`, `tests/federation.rs::a_word_about_another_stream_proves_nothing` |
//! | An answer that comes after the claim was given up is believed | The claim is gone, so the answer finds nothing | `tests/federation.rs::a_late_answer_finds_nothing` |
//! | The question about a key goes to the asker himself | It goes where the DNS leads for the claimed domain, over a connection of its own | `tests/federation.rs::the_question_goes_where_the_dns_says_and_not_to_the_asker` |
//! | A key made for one realm verifies in another: a gateway as oracle | Keys are HMACs over pair, stream id and facing, with a secret for each realm, and are vouched for only while a leg waits | `src/stream/keyring_tests.rs::a_key_of_one_realm_is_unknown_in_the_other`, `tests/federation.rs::a_key_for_the_inside_never_verifies_outside`, `tests/federation.rs::we_vouch_for_our_own_living_keys_only`, `src/run/awaited.rs::a_key_awaited_from_a_backend_is_unknown_in_public` |
//! | Piggybacking: the second pair on a stream lives off the proof of the first | Each pair is proven, judged and admitted by itself | `tests/spoofing.rs::a_second_pair_on_an_allowed_stream_is_judged_like_the_first`, `tests/spoofing.rs::a_second_pair_does_not_live_off_the_proof_of_the_first` |
//! | Multiplexed streams: one proof on a stream opens it for every domain, and one failing target takes the others along | Pairs are admitted one by one, each with a far leg of its own | `tests/spoofing.rs::a_stanza_to_a_second_hosted_domain_needs_a_pair_of_its_own`, `tests/federation.rs::one_stream_of_the_backend_carries_many_targets_independently`, `tests/interop.rs::jabberd2_reaches_two_remote_servers_over_one_stream` |
//! | Proof on one connection taken for another | A proof belongs to the stream it was made on | `tests/federation.rs::a_proof_holds_on_its_own_stream_only` |
//! | Our own domains claimed from outside | Refused by name alone, in a header and in a key | `tests/explore.rs::home_is_home`, `tests/spoofing.rs::a_hosted_domain_cannot_be_claimed_in_a_header`, `tests/spoofing.rs::a_hosted_domain_cannot_be_claimed_by_dialback` |
//! | Whoever reaches the inside listener is the backend | It takes the backends' networks only, and a backend speaks for its own domains only | `tests/spoofing.rs::nobody_else_may_call_on_the_inside`, `tests/spoofing.rs::the_backend_speaks_for_its_own_domains_alone`, `tests/relay.rs::a_backend_does_not_speak_for_the_domains_of_another` |
//! | EXTERNAL for a name that the certificate does not hold, or that was not offered | The authorization identity must be the proven domain, and the mechanism one that was offered | `tests/spoofing.rs::external_cannot_be_had_for_another_name`, `tests/spoofing.rs::external_that_was_not_offered_is_not_accepted` |
//!
//! # Certificates and the channel
//!
//! | what went wrong elsewhere | why it cannot here | shown by |
//! | --- | --- | --- |
//! | Names read from the Common Name | Alternative names only | `tests/trust.rs::names_are_taken_from_the_alternative_names_only` |
//! | Wildcards in the middle of a name, or over several labels | A wildcard is one whole left-most label | `src/stream/identity_tests.rs::a_wildcard_is_one_whole_left_most_label` |
//! | A NUL in a name cuts it short | Such a name is void | `src/stream/identity_tests.rs::a_name_with_nul_is_void` |
//! | A user's `xmppAddr` or a client's SRV name vouches for a domain | Bare domains and `_xmpp-server` only | `src/stream/identity_tests.rs::xmpp_addresses_vouch_as_bare_domains_only`, `src/stream/identity_tests.rs::srv_names_vouch_for_the_server_service_only` |
//! | Name constraints of an authority ignored for other kinds of names | They bind every name we read | `tests/trust.rs::an_authority_held_to_some_names_vouches_for_no_others` |
//! | A domain that was proven well is taken over with a weaker proof, a certificate from elsewhere or a key of the thief's | How each was proven is remembered; a change is told, and where a rule says so it waits; only what was proven is compared | `tests/peers.rs::a_certificate_of_another_authority_waits_for_an_operator`, `tests/peers.rs::a_stranger_who_proves_nothing_changes_nothing` |
//! | A key made for one thing signs another: certificates without keyCertSign, handshakes without digitalSignature | The key usage of each certificate in a path is looked at | `tests/trust.rs::an_issuer_signs_certificates_only_where_its_key_usage_says_so`, `tests/trust.rs::a_leaf_signs_handshakes_only_where_its_key_usage_says_so`, `tests/trust.rs::a_pinned_leaf_is_no_authority` |
//! | Weak keys, broken digests | Refused, whoever signed | `tests/trust.rs::weak_keys_and_broken_digests_are_refused` |
//! | Any self-signed certificate taken as authenticated | It counts only as the configured anchor of its own peer | `tests/trust.rs::a_self_signed_certificate_counts_only_as_an_anchor_of_its_peer` |
//! | Revoked certificates taken | Lists are heeded along the whole path, where configured | `tests/trust.rs::revocation_lists_are_heeded` |
//! | A certificate is revoked or expires, and its streams live on | Living streams are judged again at each reload, and end with the certificate they stand on | `tests/relay.rs::a_certificate_that_is_revoked_ends_the_stream_that_stands_on_it`, `tests/relay.rs::a_certificate_that_expires_ends_the_leg_that_we_opened`, `tests/reload.rs::a_peer_whose_anchor_is_gone_is_let_go_and_one_proven_by_dialback_stays` |
//! | A server sends us on to another host, to be believed there or to reach our own network | Followed under TLS only, twice at most, behind the guard of the DNS, and to whoever proves the same name | `tests/relay.rs::a_server_that_is_elsewhere_is_followed_under_tls_and_not_for_ever`, `src/run/world_tests.rs::a_server_cannot_send_us_where_the_dns_could_not` |
//! | A resumed session skips the check of the chain | The chain is judged after each handshake, resumed or not | `tests/tls.rs::a_resumed_session_is_judged_anew` |
//! | STARTTLS injection: what was sent in clear is read as if it came inside TLS (CVE-2011-0411 and kin) | Octets behind `<starttls/>` or `<proceed/>` end the connection; the framer must be empty | `tests/explore.rs::no_early_octets`, `tests/spoofing.rs::octets_sent_together_with_starttls_end_the_connection`, `tests/federation.rs::octets_after_proceed_end_the_attempt` |
//! | STARTTLS stripping: no offer, so it goes on in clear | Nothing leaves in clear; a key in clear is refused | `tests/explore.rs::cipher_before_word`, `tests/federation.rs::nothing_leaves_in_clear`, `tests/spoofing.rs::a_key_in_clear_is_refused_for_everybody` |
//! | What a header said before TLS still counts inside | Everything is said anew | `tests/spoofing.rs::what_was_said_in_clear_counts_for_nothing_inside_tls` |
//! | Cross-protocol and wrong-name connections over one TLS endpoint (ALPACA) | ALPN must overlap where both name some; an unknown server name fails | `tests/tls.rs::protocols_must_overlap_where_both_name_some`, `tests/trouble.rs::direct_tls_for_an_unknown_name_fails` |
//! | A page of any site opens a WebSocket in its visitor's name (cross-site WebSocket hijacking) | Sites are listed, those of the domains themselves where none is; an upgrade with a body, or with octets behind it, is none | `tests/websocket.rs::upgrades_that_are_none_are_refused` |
//! | Two elements in one message, or half of one, are read otherwise than they were framed | A message is one element that stands alone, by the same two readers | `tests/websocket.rs::what_breaks_the_rules_ends_its_stream_in_good_order`, `src/xml/messages_tests.rs::a_message_is_one_element` |
//! | One port for several protocols: what is said later makes a client of a server | What a connection is is told once, by ALPN or by the namespace of its stream | `tests/one_port.rs::what_a_connection_is_does_not_change` |
//! | A cut connection taken for an orderly end | Truncation is told from close_notify, and completes no element | `tests/tls.rs::a_cut_is_told_from_a_goodbye`, `tests/trouble.rs::a_cut_connection_completes_nothing` |
//!
//! # What is said
//!
//! | what went wrong elsewhere | why it cannot here | shown by |
//! | --- | --- | --- |
//! | Stanza smuggling: two parsers read one octet string in two ways (2022, "XMPP stanza smuggling") | What leaves is the small subset of XML that every parser reads alike; what does not come so goes through two readers that must agree, and so does one in 1,024 of the rest | `tests/explore.rs::canonical_only`, `tests/fuzz_corpus.rs::readers_agree`, `tests/framing.rs::canonical_form_keeps_prefixes_and_order`, `tests/framing.rs::b1_only_well_formed_utf8` |
//! | A stanza hidden in a namespace, or an element of the stream inside one | Content namespace only; stream elements inside are refused | `tests/framing.rs::n5_no_prefix_in_the_content_namespace`, `tests/framing.rs::s3_no_stream_elements_inside`, `tests/spoofing.rs::an_element_that_only_looks_like_a_stanza_ends_the_stream` |
//! | XML bombs: entities, doctypes (billion laughs) | No doctype, no entity but the five | `tests/framing.rs::x1_restricted_constructs`, `tests/framing.rs::r2_only_the_five_entities` |
//! | Endless depth, attributes, names, declarations | Each has a budget; one stanza above it comes back, and takes nobody's along | `tests/framing/refused.rs::each_budget_refuses_one_stanza_and_nothing_else`, `tests/refused.rs::one_users_refused_stanzas_cost_another_user_nothing`, `tests/framing.rs::budget_of_depth`, `tests/framing.rs::budget_of_attributes`, `tests/framing.rs::budget_of_names_values_and_namespaces`, `tests/framing.rs::budget_of_nodes` |
//! | Much before proof, where nobody can be blamed | Small budgets until a pair is proven | `tests/trouble.rs::before_proof_little_is_taken` |
//! | Forged `from` | Compared with the admitted pairs on every stanza; it ends the stream | `tests/spoofing.rs::a_forged_sender_ends_the_stream`, `tests/explore.rs::proof_before_pass` |
//! | Spoofed carbons (CVE-2017-5589 and its row) and roster pushes | Such payloads from outside are dropped | `tests/federation.rs::a_foreign_carbon_is_dropped`, `tests/federation.rs::nobody_outside_changes_a_roster_or_a_block_list` |
//! | Forged `stanza-id` and `delay` in our name | Marks that only we could have made are cut | `tests/federation.rs::marks_that_only_we_could_have_made_are_removed` |
//! | Stringprep and PRECIS disagree: one address, two users | An address that the two read differently is refused | `tests/spoofing.rs::an_address_that_reads_in_two_ways_is_refused`, `src/jid/address_tests.rs::local_parts_that_differ_are_refused` |
//! | IDN look-alikes, and names that IDNA 2003 and 2008 map differently | Look-alikes are other domains to every rule; ambiguous names are refused | `tests/policy.rs::look_alikes_are_distinct`, `tests/spoofing.rs::letters_that_look_alike_make_another_domain`, `tests/spoofing.rs::names_that_two_systems_read_differently_are_refused` |
//! | A rule dodged by case, a trailing dot, punycode, or a suffix without a dot | One canonical form, compared label by label | `tests/spoofing.rs::upper_case_changes_no_verdict`, `tests/spoofing.rs::a_trailing_dot_changes_no_verdict`, `tests/spoofing.rs::both_spellings_of_a_name_get_the_same_verdict`, `tests/spoofing.rs::a_suffix_without_a_dot_is_another_domain` |
//! | A stranger goes on with the stream of another, or ends it | A session is of the domain that had proven itself there, its name is 128 bits of a secret, it is taken once | `src/run/sessions.rs`, `tests/management.rs::a_session_goes_on_where_its_own_domain_stands` |
//! | A peer acknowledges what was never sent, or nothing ever | Its stream ends; what waits has a ceiling and a deadline | `tests/management.rs::a_peer_that_counts_wrongly_ends_its_stream` |
//! | Error loops and backscatter | An error is never answered; a bounce is made once | `tests/federation.rs::an_error_is_never_answered`, `tests/relay.rs::a_courier_delivers_or_bounces_once` |
//! | Words of a peer forge log lines or turn them round | Escaped and capped; labels come from our own files only | `src/run/observe_tests.rs::a_peers_words_cannot_break_a_line_or_turn_it_round`, `tests/explore.rs::closed_words` |
//!
//! # How much, and how long
//!
//! | what went wrong elsewhere | why it cannot here | shown by |
//! | --- | --- | --- |
//! | Slow loris: a header, a stanza or a handshake that never ends | Deadlines that no traffic extends | `tests/trouble.rs::a_header_that_comes_octet_by_octet_is_cut_off`, `tests/trouble.rs::a_stanza_that_never_ends_is_not_waited_for`, `tests/relay.rs::no_traffic_extends_the_time_before_proof` |
//! | A receiver that does not read makes the sender's server grow | The outbox has a high-water mark; the near leg is not read above it | `src/run/pump_tests.rs::a_backend_that_does_not_read_holds_back_the_peer_and_loses_nothing`, `tests/explore.rs::bounded` |
//! | Connection floods | Total, per network and per minute, and not an octet for those above | `tests/trouble.rs::one_source_has_so_many_connections_and_no_more`, `tests/trouble.rs::one_source_has_so_many_attempts_a_minute` |
//! | Reflection: a claim makes us call, and call again, somebody else | A denied pair costs no look-up; questions have so many places for each stream, network and domain | `tests/relay.rs::a_denied_pair_costs_nothing`, `src/limit/turns_tests.rs::what_is_over_a_share_waits_for_its_own_kind_only`, `tests/federation.rs::too_many_pending_proofs_are_refused` |
//! | A flood of strangers uses up what others need: places to verify keys, lookups, the name of a healthy domain | Who asks pays: places go in turns to the networks that claim, and nothing that they cause is held against a domain | `tests/strangers.rs::a_flood_of_strangers_is_not_noticed`, `tests/strangers.rs::junk_keys_do_not_keep_a_domain_out`, `tests/strangers.rs::a_claim_that_waits_for_the_dns_is_held_against_nobody`, `src/limit/turns_tests.rs::two_hundred_networks_delay_an_honest_one_by_a_turn` |
//! | The DNS leads us into our own network (request forgery) | Private, local and own addresses are not dialled unless the operator names them | `src/dns/guard.rs::only_public_addresses_are_dialled`, `tests/trouble.rs::a_name_that_leads_to_our_own_listener_is_refused`, `tests/dns.rs::where_the_world_finds_us_nobody_leads_us`, `src/run/world_tests.rs::the_dns_does_not_lead_back_to_this_machine_and_a_route_may` |
//! | A lying name server: loops of CNAME, answers for other names, floods of records | Bounded, and only records of the name asked for count | `tests/dns.rs::loops_and_endless_chains_of_cname_end`, `tests/dns.rs::answers_for_other_names_are_no_answers`, `tests/dns.rs::a_flood_of_records_stays_small` |
//! | An open resolver for everybody | Steering answers the backends' networks only | `tests/dns.rs::steering_answers_the_backends_only` |
//!
//! # Those who run it
//!
//! | what went wrong elsewhere | why it cannot here | shown by |
//! | --- | --- | --- |
//! | A typing error in a policy opens the door | Default deny; a policy that fails to load, or fails one of its own cases, does not replace the one in force | `tests/explore.rs::deny_by_default`, `src/gateway/gateway_tests.rs::a_reload_is_all_or_nothing`, `tests/policy.rs::a_failing_case_is_no_policy` |
//! | A reload says that it is done, and what was changed does not hold | All of the configuration is taken over at one time, or nothing and an error; what differs on the disk is told | `tests/reload.rs::a_strangers_pair_ends_at_once_when_any_becomes_listed`, `tests/reload.rs::a_domain_that_is_removed_ends_its_streams_in_good_order`, `src/gateway/reload_tests.rs::what_takes_a_restart_is_refused_by_name` |
//! | A bad certificate replaces a good one, or keeps every domain down | Files are judged by one function at check, start, reload and renewal | `src/gateway/reload_tests.rs::a_certificate_that_check_refuses_is_refused_by_a_reload`, `src/gateway/reload_tests.rs::a_domain_whose_certificate_will_not_do_stays_closed_and_the_others_open`, `src/gateway/watch_tests.rs::a_renewed_certificate_is_taken_over_and_a_bad_one_is_refused` |
//! | The order of rules decides by accident | The most specific rule wins, a tie is an error, files merge in any order | `tests/policy.rs::order_never_decides`, `tests/policy.rs::a_tie_names_both_lines` |
//! | A rule withdrawn, and the streams live on | Living pairs are judged again | `tests/relay.rs::a_new_policy_judges_living_streams`, `src/run/pump_tests.rs::a_pair_that_a_new_policy_forbids_is_ended` |
//! | A stream dies and takes accepted stanzas along in silence | What did not go out whole is carried on a new stream or comes back | `tests/trouble.rs::what_was_accepted_when_the_backend_went_down_is_delivered_or_comes_back`, `tests/relay.rs::a_broken_inside_leg_loses_nothing_in_silence` |
