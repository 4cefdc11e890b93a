/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of session tickets (RFC 5077, RFC 8446 4.6.1). One set for all threads and all contexts
 * of the process, so that a client may come back to any of them and after a reload. A new key is
 * made every hour and three are kept: a ticket is good for two to three hours, and who steals a key
 * reads no more than that. They never leave the process. Under a lock, held for a copy. */
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

#include "clock.h"
#include "tls_room.h"

#define KEYS 3
#define TURN_MS 3600000

struct ticket_key {
    uint8_t name[16], aes[32], mac[32];
    int64_t made_ms; /* 0: not there */
};

static struct {
    pthread_mutex_t lock;
    struct ticket_key keys[KEYS]; /* the newest first */
} tickets = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void turn(int64_t now)
{
    struct ticket_key *k = tickets.keys;

    if (k[0].made_ms && now - k[0].made_ms < TURN_MS)
        return;
    crypto_wipe(&k[KEYS - 1], sizeof *k);
    memmove(k + 1, k, (KEYS - 1) * sizeof *k);
    crypto_random(&k[0], offsetof(struct ticket_key, made_ms));
    k[0].made_ms = MAX(now, 1);
}

/* name NULL: the one to write with. The place of the key among the others, or -1. */
static int key_of(const uint8_t *name, struct ticket_key *out)
{
    int at = name ? -1 : 0;

    pthread_mutex_lock(&tickets.lock);
    turn(clock_mono_ms());
    for (int i = 0; name && i < KEYS && at < 0; i++)
        if (tickets.keys[i].made_ms && !memcmp(tickets.keys[i].name, name, sizeof out->name))
            at = i;
    if (at >= 0)
        *out = tickets.keys[at];
    pthread_mutex_unlock(&tickets.lock);
    return at;
}

static bool set_mac(EVP_MAC_CTX *mac, struct ticket_key *k)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, k->mac, sizeof k->mac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){ "SHA256" }, 0),
        OSSL_PARAM_construct_end(),
    };

    return EVP_MAC_CTX_set_params(mac, params) == 1;
}

int tickets_callback(SSL *ssl UNUSED, unsigned char *name, unsigned char *iv,
                     EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt)
{
    struct ticket_key k;
    int at = key_of(encrypt ? NULL : name, &k), ok;

    if (at < 0)
        return 0; /* a full handshake then */
    if (encrypt) {
        memcpy(name, k.name, sizeof k.name);
        crypto_random(iv, 16);
        ok = EVP_EncryptInit_ex2(cipher, EVP_aes_256_cbc(), k.aes, iv, NULL);
    } else {
        ok = EVP_DecryptInit_ex2(cipher, EVP_aes_256_cbc(), k.aes, iv, NULL);
    }
    ok = ok == 1 && set_mac(mac, &k);
    crypto_wipe(&k, sizeof k);
    if (!ok)
        return -1;
    return !encrypt && at > 0 ? 2 : 1; /* 2: good, and give it a newer one */
}

void tls_tickets_turn(void)
{
    pthread_mutex_lock(&tickets.lock);
    tickets.keys[0].made_ms -= TURN_MS;
    turn(clock_mono_ms());
    pthread_mutex_unlock(&tickets.lock);
}
