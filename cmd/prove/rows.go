package main

// row is one guarantee with the figure to reach and what measures it.
type row struct {
	id, goal string
	command  []string
}

// rows is the table. The goals are those of the full level.
func rows() []row {
	test := func(id, pattern, goal string) row {
		return row{id, goal, []string{"go", "test", "-v", "-count=1", "-timeout=24h", "-run", "^(" + pattern + ")$", "./cmd/internal/proof"}}
	}
	return []row{
		test("M1", "TestUpstreamCutMatrix|TestJMAPCutMatrix", "upstream cut at every octet of a session of 40 commands, both directions, FIN, RST and stall, with UIDPLUS, without, with MOVE, and over JMAP: 0 wrong terminators, unmarked deletions, false +OK, panics, leaks; each run ends within 60 s simulated; over 200,000 runs under 10 min"),
		test("M2", "TestClientCutMatrix|TestPipelinedStreamCut", "client cut at every octet of the same session: deletion if and only if the complete QUIT line was delivered"),
		test("M3", "TestTorture", "every I/O call failed once, 4 kinds of error: 0 violations, 0 leaks"),
		test("M4", "TestKillAtEveryStep|TestKillAtRandomSyscalls", "SIGKILL at every step and at 1,000 random system calls: 0 unmarked deletions, next login within 1 s of the restart, the same unique-ids"),
		test("M5", "TestHistory", "10,000 sessions, 16 POP3 clients and 4 others on 50 maildrops, faults on 10 % of the upstream I/O: 0 violations"),
		test("M6", "TestModel", "1,000,000 random actions against a model of RFC 1939, 3 kinds of server: 0 differences"),
		test("M7", "TestHostileServers|TestMutatedInput|TestNumbersAreDigitsAndInRange|TestSizesOfAnyGreatnessAddUp|TestAnEndlessLineEndsTheSession|TestABrowserHearsNothingOfItself", "100,000 hostile client inputs and 100,000 hostile server responses: 0 panics, 0 hangs, under 256 MiB, at most 10 times memory and CPU"),
		test("M8", "TestEveryFuzzTarget", "10 fuzz targets or more, 10 minutes each, all clean; the stateful one covers 85 % of the session's code"),
		test("M9", "TestSTLSInjection|TestSTARTTLSAttacks", "STLS and STARTTLS injection, 1,000 runs in each segmentation, and a case of our own for each class of attack: 0 accepted"),
		test("M10", "TestBadCertificates", "12 classes of bad certificate upstream: 0 octets of a credential sent"),
		test("M11", "TestFidelity", "50,000 generated messages, 7 decoders: 0 differences; LIST equals the octets received for messages of CRLF lines"),
		test("M13", "TestMemoryOfASession|TestALargeMaildropTakesLittleMemory", "an idle session after login, its upstream connection included: at most 48 kB of PSS, 96 kB with TLS on both legs; a maildrop of 1,000,000 messages: at most 48 MiB"),
		test("M14", "TestDripsAndReadersThatStop", "10,000 clients that drip and 500 that stop reading 50 MB: RSS at most 1 GiB, a good client's login, RETR and QUIT under 2 s at the 99th percentile, all drips gone 5 s after the deadline"),
		test("M15", "TestNoDescriptorsLeft", "no descriptors left: under 10 % of a core, recovery within 2 s, 0 established sessions lost"),
		test("M16", "TestRollingRestart", "a new process every 10 s for 10 min under 200 sessions: 0 violations, no client refused, each QUIT answered, the others end by [SYS/TEMP] or a clean close"),
		test("M17", "TestFewGuessesReachTheUpstream", "10,000 bad logins from one address: at most 60 reach the upstream in the first 10 min, a good user elsewhere logs in at once"),
		test("M18", "TestRefusalsDoNotTellWhy", "1,000 refusals each of an unknown user, a wrong password and a limited login: the same reply, medians within 5 ms, AUC 0.47 to 0.53"),
		test("M19", "TestNoSecretIsLogged", "1,000,000 log lines under a fuzz of canaries: 0 secrets, all parse"),
		test("M20", "TestNothingThatClientsSayMakesASeries|TestTheConfigurationBoundsTheSeries", "100,000 different users, addresses and server names: 0 new series, at most 500; with several of everything as many as the configuration allows"),
		test("M21", "TestSoak", "2 h at 5 % faults: under 1 MiB/h of growth, goroutines and descriptors back to where they were"),
		test("M22", "TestEveryMutantIsKilled", "every sabotage of a promise is noticed by a test"),
		test("M23", "TestTheWholeSuiteUnderTheRaceDetector", "the whole suite under the race detector: 0 reports"),
		test("M24", "TestTheWallClockMayJump", "the wall clock jumps a day and a year: 0 sessions lost, 0 timers stuck"),
		test("M25", "TestForeignDeleted", "1,000 sessions on a server without UIDPLUS beside a client that flags at random: 0 of its messages lost"),
		test("M26", "TestPipelinedRetrieveDeleteQuit", "pipelined RETR, DELE, QUIT with the upstream cut inside RETR at every octet: 0 deletions of what was not sent whole"),
		test("T39", "TestCommandsCostAboutWhatTheyCostTheClient", "the commands that make most of least: at most 10 times the processor time of the peers"),
		test("T40", "TestFloodsLeaveSessionsAlone", "2,000 handshakes a second offered: NOOP of established sessions under 250 ms at the 99th percentile"),
		test("I1", "TestInjection", "any user and password, every octet: the upstream gets it as it is in one command, or it is refused"),
		test("L1", "TestALargeMessageTakesConstantMemory", "a message of 500 MB: under 10 MiB of growth"),
	}
}
