// Package engine decides who may have which message, and when: it owns the
// queues, their order and limits, hands messages out, fans broadcasts out, and
// lets go of what is too old.
//
// [Engine.Send] and [Engine.Broadcast] return when the message is durable.
// [Engine.Take] gives a [messaging.Handout] that nobody else gets until it is
// settled. [Engine.Leases], [Engine.Schedule], [Engine.Bury], [Engine.Sweep],
// [Engine.SweepDeadLetters], [Engine.Fanout], [Engine.Retention] and
// [Engine.WatchDisk] are services that run until their context ends; whoever
// starts them restarts them when they fail.
//
// A queue's counts and heads live in memory while someone uses them and on
// disk under its user; DESIGN.md says how the two stay equal.
package engine
