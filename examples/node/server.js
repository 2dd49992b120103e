const fastify = require('fastify')({ logger: true })

fastify.get('/', async () => ({ greeting: 'from a microVM', node: process.version }))

fastify.listen({ host: '0.0.0.0', port: 3000 })
