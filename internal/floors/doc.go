// Package floors is the architecture of twinkeel as a test; it holds no other code.
//
// Packages stand on floors and import only downwards; the host's wing and the
// publisher's wing meet only in the shared packages between them; each outside
// dependency has one home; what the privileged process must not hold is not in its
// closure; clock, disk, network and randomness are reached through seams. house_test.go
// is the plan of the house as tables, with one sentence of reason each, and the only
// file to edit when a package or a dependency is added. rules_test.go and
// source_test.go check it, and examples_test.go holds for every rule a small tree that
// breaks it, so that no rule can go blind unnoticed.
package floors
