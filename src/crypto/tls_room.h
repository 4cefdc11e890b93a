/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of TLS share. */
#pragma once

#include <openssl/ssl.h>

#include "crypto.h"
#include "tls.h"

/* For SSL_CTX_set_tlsext_ticket_key_evp_cb. */
int tickets_callback(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int encrypt);
void tls_tickets_turn(void); /* as if an hour had passed; for tests */
