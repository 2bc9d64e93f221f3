// Package engine owns the users' queues: their order, limits, claims and leases. It
// delivers messages to readers, enqueues broadcasts for their receivers, and expires old
// messages.
//
// [Engine.Send] and [Engine.Broadcast] return when the message is durable. [Engine.Take]
// returns a [messaging.Delivery] whose messages no other reader gets until it is finished.
// [Engine.Services] run until their context ends; their owner restarts a service that
// fails.
//
// A queue's counts and heads (where reading begins) are in memory while it is in use, and on
// disk under its user. DESIGN.md explains how the two stay consistent.
package engine
