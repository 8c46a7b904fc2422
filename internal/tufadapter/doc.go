// Tufadapter is twinkeel's TUF client as a command, for judges from outside: suites that
// test clients of The Update Framework drive an executable, and this one is a thin cover
// over package signing, which is the client that the agent runs.
//
//	tufadapter --metadata-dir D init ROOT_FILE
//	tufadapter --metadata-dir D --metadata-url U refresh
//	tufadapter --metadata-dir D --metadata-url U --target-name T [--target-name T2 ...]
//	    --target-base-url B --target-dir O download
//
// Flags stand before the verb, in any order; those that a verb has no use for are
// accepted. It ends with 0 if all was done and with 1 in every other case, and says on
// stderr why.
//
// D holds the state: root.json, timestamp.json, snapshot.json, targets.json and one file
// for each delegated role, byte for byte as served, beside what else signing keeps there.
// O gets one file for each target. Requests are made for what signing asks for, in its
// order, and never twice.
//
// What differs from the agent: signing.Config.Interop is set, so that keys, names and
// listings that twinkeel's own profile leaves out are judged by the specification alone;
// HTTP is spoken in this process; and with FAKETIME in the environment the time is that
// of date(1), because the C library that such a variable bends is none that Go asks.
package main
