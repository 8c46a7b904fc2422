package agent

// Phase is where a transaction stands.
type Phase string

// The phases, in their order: idle, staging, staged, armed, and reverting on the way back.
const (
	Idle      Phase = "idle"
	Staging   Phase = "staging"
	Staged    Phase = "staged"
	Armed     Phase = "armed"
	Reverting Phase = "reverting"
)
