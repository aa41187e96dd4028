/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the plugin wants to know of an x86-64 instruction.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef PINLESS_INSN_H
#define PINLESS_INSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint32_t insn_mark(const uint8_t *code, size_t size);
bool insn_is_locked(const uint8_t *code, size_t size);
bool insn_is_barrier(const uint8_t *code, size_t size);

#endif /* PINLESS_INSN_H */
