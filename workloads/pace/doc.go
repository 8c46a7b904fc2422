// Package pace starts programs whose timers are as exact as they need to be, and not more.
//
// The package imports nothing of twinkeel.
package pace
